"""The page in a real browser: upload, enrol, predict, detect; nothing is asked of another host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsljax.demo.sample import sample_page

from .test_sessions import letter

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]
AXE = os.environ.get("AXE_CORE")  # axe.min.js of the npm package axe-core, where there is one
SECONDS = 120

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio")
    port, place = free_port(), tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "fsljax.demo", f"--port={port}", f"--model={ROOT}/models/protonet_1_5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(place / "uploads")}
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=place)
        begun = time.monotonic()
        while "The demo is at" not in (said := (place / "log").read_text()):
            assert server.poll() is None and time.monotonic() - begun < SECONDS, said
            time.sleep(0.2)
        assert f"The demo is at http://127.0.0.1:{port}/" in said
        yield f"http://127.0.0.1:{port}/"
        server.terminate()
        server.wait(20)
    assert "Traceback" not in (place / "log").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    one = browser.new_page(viewport={"width": 1280, "height": 900})
    one.set_default_timeout(SECONDS * 1000)
    asked: list[str] = []
    one.on("request", lambda request: asked.append(request.url))
    one.goto(address)
    one.wait_for_selector("[role=tab]")
    yield one
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert outside == []
    assert no_serious_fault(one)
    one.close()


def no_serious_fault(page: Any) -> bool:
    """Whether axe finds none; True where it is not at hand."""
    if AXE is None:
        return True
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    faults = page.evaluate("axe.run()")["violations"]
    serious = [
        (one["id"], one["nodes"][0]["html"]) for one in faults if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    return True


def upload(page: Any, area: str, *files: Path) -> None:
    page.set_input_files(f"{area} input[type=file]", [str(file) for file in files])
    page.wait_for_selector(f"{area} .file-preview")


def say(page: Any, field: str, text: str) -> None:
    page.fill(f"{field} textarea, {field} input", text)


def told(page: Any, message: str, text: str) -> None:
    page.wait_for_selector(f"{message} .said:has-text({json.dumps(text)})")


def test_images_are_enrolled_and_named_and_what_is_no_image_is_refused(page: Any, tmp_path: Path):
    for name in "AT":
        files = [tmp_path / f"{name}{turn}.png" for turn in (-8, 0, 8)]
        for file, turn in zip(files, (-8, 0, 8), strict=True):
            letter(name, turn).save(file)
        upload(page, "#enrol-files", *files)
        say(page, "#enrol-name", name)
        page.click("#enrol")
        told(page, "#enrolled", f"Enrolled 3 images of {name}.")
        page.wait_for_selector("#enrol-files .file-preview", state="detached")
    assert page.locator("#classes tbody tr").count() == 2
    letter("A", 4).save(tmp_path / "asked.png")
    upload(page, "#name-files", tmp_path / "asked.png")
    page.click("#name")
    told(page, "#named", "Named 1 image.")
    assert page.inner_text("#answers .name") == "A" and "confidence" in page.inner_text("#answers")
    (tmp_path / "notes.png").write_text("no image")
    upload(page, "#enrol-files", tmp_path / "notes.png")
    page.click("#enrol")
    told(page, "#enrolled", "notes.png cannot be read: not an image file")
    assert page.locator("#classes tbody tr").count() == 2

    page.click("#save-classifier")
    with page.expect_download() as downloading:
        page.click("#saved-classifier a")
    downloading.value.save_as(tmp_path / "classifier.zip")
    page.reload()
    page.wait_for_selector("#load-classifier input[type=file]", state="attached")
    assert page.locator("#classes tbody tr").count() == 0
    page.set_input_files("#load-classifier input[type=file]", str(tmp_path / "classifier.zip"))
    told(page, "#kept-classifier", "Loaded 2 classes.")
    assert page.locator("#classes tbody tr").count() == 2


def test_a_character_is_drawn_and_found_in_a_page(page: Any, tmp_path: Path):
    page.get_by_role("tab", name="Find a character").click()
    canvas = page.locator("#character canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for line in ([(0.3, 0.2), (0.3, 0.8)], [(0.7, 0.2), (0.3, 0.5), (0.7, 0.8)]):
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()
    say(page, "#character-name", "K")
    page.click("#enrol-character")
    told(page, "#character-enrolled", "Enrolled a drawing of K.")
    sheet, text = next((p, t) for p, t in map(sample_page, range(20)) if 1 <= t.count("K") <= 3)
    sheet.save(tmp_path / "page.png")
    upload(page, "#page-file", tmp_path / "page.png")
    page.wait_for_selector("#page img")
    page.click("#find-characters")
    told(page, "#characters-said", "Found")
    assert page.locator("#characters-found li").count() >= text.count("K")


def test_a_box_is_clicked_and_its_like_found(page: Any, detection_dir: Path):
    photographs = detection_dir / "photos" / "JPEGImages"
    page.get_by_role("tab", name="Find objects").click()
    page.set_viewport_size({"width": 390, "height": 844})
    upload(page, "#object-file", photographs / "raccoon_0002.jpg")
    image = page.locator("#object-photo img")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    for share in (0.2, 0.9):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
        page.wait_for_timeout(1500)
    left, right = (int(page.input_value(f"#box-{side} input")) for side in ("left", "right"))
    assert 0 < left < right
    say(page, "#object-name", "raccoon")
    page.click("#enrol-object")
    told(page, "#object-enrolled", "Enrolled one box of raccoon.")
    upload(page, "#search-files", photographs / "raccoon_0005.jpg", photographs / "raccoon_0006.jpg")
    page.click("#find-objects")
    page.wait_for_selector("#objects-found figure")
    assert page.locator("#objects-found figure").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
