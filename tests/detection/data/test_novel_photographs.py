"""Few-shot episodes of photographs, from a small folder in VOC's layout whose classes are colours."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fsljax import methods
from fsljax.config import plain
from fsljax.detection.data.episode_file import read_episodes
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.evaluation import few_shot as few_shot_detection
from fsljax.errors import UserError
from fsljax.methods import repmet_detector
from fsljax.methods.repmet_detector import RepMetDetector
from fsljax.storage.json_files import write_json

from .voc_folder import write_voc

COLOURS = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255),
    "yellow": (255, 255, 0), "cyan": (0, 255, 255), "pink": (255, 0, 255),
}  # fmt: skip
NOVEL = tuple(COLOURS)[2:]
EACH = 20  # images of a class, as an episode takes
HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random, images = np.random.default_rng(0), {}
    for kind, colour in COLOURS.items():
        for number in range(EACH):
            y, x = random.integers(1, 24, 2)
            height, width = random.integers(16, 24, 2)
            pixels = random.integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            pixels[y : y + height, x : x + width] = colour
            images[f"{kind}{number}"] = pixels, [(kind, (x + 1, y + 1, x + width, y + height), 0)]
    return write_voc(tmp_path_factory.mktemp("colours"), images)


def make_method(folder: Path, **evaluation: Any) -> RepMetDetector:
    config = repmet_detector.default_config()
    config.name = "small"
    config.data.update({"name": "voc", "path": str(folder), "channels": 3, "image_size": 32})
    config.data.novel = NOVEL
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 16, "extra_levels": 0})
    config.proposals.update({"sizes": (8.0, 12.0, 16.0), "sampled": 16, "before_nms": 16})
    config.proposals.update({"keep": 8, "keep_in_test": 8})
    config.rois.update({"sampled": 8, "output_size": 3, "canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 64, "dim": 32})
    config.eval.update({"images": 8, "episodes": 2, "episodes_file": str(folder / "episodes.json")})
    config.eval.update(evaluation)
    typed = methods.check(config)
    method: Any = methods.build(typed, methods.load(typed))
    return method


@pytest.fixture(scope="module", autouse=True)
def few_written() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_shot_detection, "_WRITTEN", 3)
        yield


@pytest.fixture(scope="module")
def method(folder: Path) -> RepMetDetector:
    return make_method(folder, ceiling=True, shots=(1, 5))


@pytest.fixture(scope="module")
def variables(method: RepMetDetector) -> dict[str, Any]:
    return dict(jax.jit(method.init)(jax.random.key(0)).inference_variables())


@pytest.fixture(scope="module")
def novel(method: RepMetDetector) -> NovelPhotographs:
    images = method.data.novel_images
    assert isinstance(images, NovelPhotographs)
    return images


def test_an_evaluation_names_new_classes_in_photographs(
    method: RepMetDetector, variables: dict[str, Any], folder: Path
):
    evaluation = method.evaluate(variables)
    columns = ["5way_1shot_ft0", "5way_5shot_ft0"]
    ceilings = [f"{name}_ceiling" for name in columns]
    assert list(evaluation.test) == [*columns, *ceilings, "proposals", "base"]
    # Colours are told apart without training, where the boxes are given.
    assert evaluation.test["5way_5shot_ft0_ceiling"]["map50"] > 0.5
    written = read_episodes(folder / "episodes.json")
    assert written.kind == "images" and set(written.class_names) == set(NOVEL)


def test_boxes_are_scaled_and_padding_is_known(method: RepMetDetector, novel: NovelPhotographs):
    episodes = few_shot_detection.episodes_of(method.config, novel)
    assert method.config.eval.episodes_file
    stored = read_episodes(Path(method.config.eval.episodes_file), count=2, shots=5)
    np.testing.assert_allclose(episodes.support_boxes, stored.support_boxes / 2)
    np.testing.assert_allclose(episodes.ground_truth.boxes, stored.ground_truth.boxes / 2)
    support, query = novel.images(episodes, [1], False)
    assert support.images.shape == (1, 5, 5, 32, 32, 3) and query.images.shape == (1, 50, 32, 32, 3)
    assert query.sizes is not None
    np.testing.assert_array_equal(np.unique(np.asarray(query.sizes).reshape(-1, 2), axis=0), [[24, 32]])
    assert not np.asarray(query.images)[..., 24:, :, :].any()
    for way, label in enumerate(episodes.classes[1]):
        y0, x0, y1, x1 = episodes.support_boxes[1, way, 0]
        seen = np.asarray(support.images[0, way, 0])[int((y0 + y1) / 2), int((x0 + x1) / 2)]
        np.testing.assert_allclose(seen, np.array(COLOURS[episodes.class_names[label]]) / 255, atol=0.1)


def test_regions_end_where_the_image_does(
    method: RepMetDetector, variables: dict[str, Any], folder: Path, novel: NovelPhotographs
):
    result = few_shot_detection.evaluate(make_method(folder).trained(variables), novel)
    assert np.asarray(result.shown.detections.boxes)[..., 2].max() <= 24


def test_a_set_without_novel_classes_has_no_episodes(folder: Path):
    method = make_method(folder)
    config = replace(method.config, data=replace(method.config.data, novel=()))
    assert methods.load(config).novel_images is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"distractors": True}, r"config\.eval\.distractors is for scenes"),
        ({"episodes": 4}, "4 were asked for"),
    ],
)
def test_what_cannot_be_evaluated(
    folder: Path, method: RepMetDetector, variables: dict[str, Any], fields: dict[str, Any], told: str
):
    refused = make_method(folder, **fields)
    novel: Any = refused.data.novel_images
    few_shot_detection.episodes_of(method.config, novel)
    with pytest.raises(UserError, match=told):
        few_shot_detection.evaluate(refused.trained(variables), novel)


def test_too_few_images_are_told_of(folder: Path, tmp_path: Path):
    method = make_method(folder, episodes_file=str(tmp_path / "none.json"))
    config = replace(method.config, data=replace(method.config.data, limit=30))
    novel: Any = methods.load(config).novel_images  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"An episode needs 20 images.*--config\.eval\.episodes=0"):
        few_shot_detection.episodes_of(method.config, novel)


def test_images_and_boxes_that_the_data_lack_are_told(
    method: RepMetDetector, folder: Path, novel: NovelPhotographs
):
    few_shot_detection.episodes_of(method.config, novel)
    episodes = read_episodes(folder / "episodes.json")
    far = episodes.support_boxes.copy()
    far[1, 0, 0, 2] = HEIGHT + 1
    with pytest.raises(UserError, match="Episode 1 has a box outside its image"):
        novel.in_pixels(replace(episodes, support_boxes=far))
    unknown = episodes.query.copy()
    unknown[0, 0] = "another"
    with pytest.raises(UserError, match="an image 'another' that the data set does not have"):
        novel.in_pixels(replace(episodes, query=unknown))


def test_damaged_episodes_of_the_cache_are_made_anew_and_others_refused(
    method: RepMetDetector, tmp_path: Path, novel: NovelPhotographs, monkeypatch, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = replace(method.config, eval=replace(method.config.eval, episodes_file=""))
    first = few_shot_detection.episodes_of(config, novel)
    (path,) = tmp_path.glob("*/detection_episodes-*.json")
    whole = path.read_text()
    for damaged in ("", "{}", whole[:-9], whole.replace('"seed":0', '"seed":1')):
        assert damaged != whole
        path.write_text(damaged)
        caplog.clear()
        again = few_shot_detection.episodes_of(config, novel)
        assert "Regenerating them." in caplog.text and path.read_text() == whole
        np.testing.assert_array_equal(again.support_boxes, first.support_boxes)
    path.write_text(whole[:-9])
    named = replace(method.config, eval=replace(method.config.eval, episodes_file=str(path)))
    with pytest.raises(UserError, match="Regenerate it"):
        few_shot_detection.episodes_of(named, novel)


def checked_before_training(folder: Path, **fields: Any) -> None:
    method = make_method(folder, **fields)
    methods.check_test(method)


def test_photographs_that_cannot_be_read_are_told_before_training(folder: Path, tmp_path: Path):
    copied = tmp_path / "set"
    shutil.copytree(folder, copied)
    fields = {"episodes_file": str(tmp_path / "episodes.json")}
    checked_before_training(copied, **fields)
    episodes = read_episodes(tmp_path / "episodes.json")
    used = str(episodes.query[1].reshape(-1)[-1])  # of another than the first episode
    for name in (used, f"{next(iter(COLOURS))}0"):
        (file,) = copied.glob(f"JPEGImages/{name}.*")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=rf"The image {name} cannot be read: .*Replace it"):
            checked_before_training(copied, **fields)
        file.write_bytes(whole)


def test_a_baseline_without_a_checkpoint_is_told_before_training(folder: Path, tmp_path: Path):
    linear = make_method(folder).config
    stored = plain(replace(linear, head=replace(linear.head, kind="linear")))
    stored["loss"]["linear"] = 0.0
    write_json(tmp_path / "config.json", stored)
    with pytest.raises(UserError, match=r"There is no readable checkpoint in"):
        checked_before_training(folder, baseline=str(tmp_path))


def test_an_episodes_file_of_other_images_is_told_before_training(folder: Path, tmp_path: Path):
    methods.check_test(make_method(folder, episodes_file=str(tmp_path / "episodes.json")))
    path = tmp_path / "episodes.json"
    path.write_text(path.read_text().replace('"content":"', '"content":"0'))
    with pytest.raises(UserError, match="episodes"):
        checked_before_training(folder, episodes_file=str(path))
