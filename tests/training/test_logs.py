"""Scalars that outlive kills and full disks, and files that TensorBoard reads."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from fsljax.storage.json_files import unsealed
from fsljax.training.logs import HISTORY, MetricsLog, read_history, write_embeddings


def read_events(workdir: Path) -> list[Event]:
    """The events of all files of a run, checksums verified."""
    events = []
    for path in sorted((workdir / "metrics").glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            content = data[12 : 12 + length]
            assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
            assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(content)
            events.append(Event.FromString(content))
            data = data[16 + length :]
    return events


def scalars_of(events: list[Event]) -> list[tuple[int, str, float]]:
    return [(e.step, v.tag, v.simple_value) for e in events if e.HasField("summary") for v in e.summary.value]


def write_steps(workdir: Path, steps: range, *, resume_step: int | None = None) -> None:
    with MetricsLog(workdir, resume_step=resume_step) as log:
        for step in steps:
            log.scalars(step, {"train/loss": float(step)})


def test_scalars_go_to_history_and_tensorboard(tmp_path: Path):
    with MetricsLog(tmp_path / "run") as log:
        log.scalars(1, {"train/loss": 0.5, "learning_rate": np.float32(0.25)})
        log.scalars(2, {"validation/accuracy": 1})
        # A run that is killed now has lost nothing.
        assert read_history(tmp_path / "run") == [
            {"step": 1, "train/loss": 0.5, "learning_rate": 0.25},
            {"step": 2, "validation/accuracy": 1.0},
        ]
    events = read_events(tmp_path / "run")
    assert events[0].file_version == "brain.Event:2"
    assert scalars_of(events) == [
        (1, "train/loss", 0.5), (1, "learning_rate", 0.25), (2, "validation/accuracy", 1.0)
    ]  # fmt: skip


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path: Path):
    write_steps(tmp_path, range(1, 11), resume_step=0)
    write_steps(tmp_path, range(7, 9), resume_step=6)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]
    purges = [e.step for e in read_events(tmp_path) if e.HasField("session_log")]
    assert purges == [1, 7]
    assert {e.session_log.status for e in read_events(tmp_path) if e.HasField("session_log")} == {
        SessionLog.SessionStatus.START
    }


def test_a_run_started_anew_has_no_old_rows_and_one_without_a_step_keeps_them(tmp_path: Path):
    write_steps(tmp_path, range(1, 4))
    write_steps(tmp_path, range(4, 6), resume_step=None)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3, 4, 5]
    write_steps(tmp_path, range(1, 3), resume_step=0)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2]


@pytest.mark.parametrize("resume_step", [None, 3])
def test_a_half_written_last_line_is_left_out_and_cut_off(tmp_path: Path, resume_step: int | None):
    write_steps(tmp_path, range(1, 4))
    with (tmp_path / HISTORY).open("a") as file:
        file.write('{"step": 4, "train/lo')
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3]
    write_steps(tmp_path, range(4, 6), resume_step=resume_step)
    assert [json.loads(line)["step"] for line in (tmp_path / HISTORY).open()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\x00", b"[3]", b'{"a": 1.0}', b'{"step": "2", "a": 1}', b'{"step": true}', b'{"step": -1}',
        b'{"step": 2.5}', b'{"step": 1e30}', b'{"step": 2, "a": "1.0"}', b'{"step": 2, "a": [1]}',
        b'{"step": 2, "a": NaN}', b'{"step": 2, "a": true}', b'{"step": 2, "a": 1' + b"0" * 400 + b"}",
        b"[" * 100_000, b'{"step": 2, "a": ' + b"[" * 500 + b"]" * 500 + b"}", b"",
    ],
    ids=range(16),
)  # fmt: skip
def test_damaged_lines_are_left_out_with_one_warning(tmp_path: Path, caplog, line: bytes):
    lines = [b'{"step": 1, "a": 2.0}', line, line, b'{"step": 5}']
    (tmp_path / HISTORY).write_bytes(b"\n".join(lines) + b"\n")
    assert read_history(tmp_path) == [{"step": 1, "a": 2.0}, {"step": 5}]
    (record,) = caplog.records
    assert "2 rows of 4 are damaged and skipped, the first of them in line 2" in record.getMessage()
    write_steps(tmp_path, range(6, 7), resume_step=5)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 5, 6]


def test_a_changed_digit_of_a_row_is_told(tmp_path: Path, caplog):
    write_steps(tmp_path, range(1, 4))
    path = tmp_path / HISTORY
    path.write_text(path.read_text().replace('"train/loss": 2.0', '"train/loss": 7.0'))
    assert [row["step"] for row in read_history(tmp_path)] == [1, 3]
    assert "1 rows of 3 are damaged" in caplog.text


def test_a_history_that_may_not_be_read_is_told(tmp_path: Path, caplog):
    (tmp_path / HISTORY).mkdir()
    assert read_history(tmp_path) == []
    assert "cannot be read (Is a directory)" in caplog.text


def test_without_a_history_there_are_no_rows(tmp_path: Path):
    assert read_history(tmp_path / "nowhere") == []


def test_figures_that_are_not_finite_are_null_in_strict_json(tmp_path: Path):
    with MetricsLog(tmp_path) as log:
        log.scalars(1, {"a": math.nan, "b": -math.inf, "c": 1.0})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads((tmp_path / HISTORY).read_text(), parse_constant=refuse)
    assert unsealed(row) == {"step": 1, "a": None, "b": None, "c": 1.0}
    (read,) = read_history(tmp_path)
    assert math.isnan(read["a"]) and math.isnan(read["b"]) and read["c"] == 1.0
    assert math.isnan(scalars_of(read_events(tmp_path))[0][2])


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: the system writes what fits, then refuses."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_that_cannot_grow_cost_one_warning_and_nothing_once_they_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with MetricsLog(tmp_path) as log:
        with files_limited_to(1001):
            for step in range(1, 101):
                log.scalars(step, {"a": float(step)})
            log.flush()
            sizes = {path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
            assert sizes == {1001}
        assert 0 < len(read_history(tmp_path)) < 100
        log.scalars(101, {"a": 101.0})
    assert [(row["step"], row["a"]) for row in read_history(tmp_path)] == [(s, s) for s in range(1, 102)]
    assert scalars_of(read_events(tmp_path)) == [(step, "a", step) for step in range(1, 102)]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "training continues" in caplog.text


def test_a_run_that_ends_on_a_full_disk_ends_quietly(tmp_path: Path, caplog, capfd):
    with files_limited_to(100):
        write_steps(tmp_path, range(1, 3000))
        write_embeddings(tmp_path, np.zeros((50, 8)), ["a"] * 50, np.zeros((50, 4, 4, 1), np.uint8))
    assert len(caplog.records) == 2
    assert capfd.readouterr().err.count("Traceback") == 0
    # The half-written row is no obstacle to the next run.
    write_steps(tmp_path, range(7, 9), resume_step=1)
    assert [row["step"] for row in read_history(tmp_path)] == [1, 7, 8]


def test_a_workdir_that_cannot_be_made_does_not_stop_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    write_steps(tmp_path / "file", range(1, 4), resume_step=0)
    assert len(caplog.records) == 1
    assert str(tmp_path / "file") in caplog.text
    write_embeddings(tmp_path / "file", np.zeros((1, 2)), ["a"], np.zeros((1, 4, 4, 1), np.uint8))
    assert len(caplog.records) == 2


def test_no_name_is_run_as_a_formula_by_a_spreadsheet(tmp_path: Path):
    names = {
        "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
        "+1": "'+1",
        "-1": "'-1",
        "@SUM(1)": "'@SUM(1)",
        '"=1+1"': '\'"=1+1"',
        "\t\r=1": "'=1",
        "\x00\x1b=1": "'=1",
        "\ufeff=2": "'=2",
        "\uff1d1": "'\uff1d1",
        "a\x00b": "a b",
        "a = b": "a = b",
        "\udcff": "\\udcff",
    }
    images = np.zeros((len(names), 4, 4, 1), np.uint8)
    write_embeddings(tmp_path, np.zeros((len(names), 2)), list(names), images)
    metadata = (tmp_path / "metrics" / "metadata.tsv").read_text(encoding="utf-8")
    assert metadata.splitlines() == list(names.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_projector_files_agree_with_each_other(tmp_path: Path, channels: int):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(5, 4))
    images = np.stack([np.full((8, 8, channels), 40 * i, np.uint8) for i in range(5)])
    names = ["Keble/1", "a\ttab", "a\nline", "ключ", ""]
    write_embeddings(tmp_path, embeddings, names, images)

    folder = tmp_path / "metrics"
    np.testing.assert_allclose(np.loadtxt(folder / "tensors.tsv", delimiter="\t"), embeddings, rtol=1e-5)
    metadata = (folder / "metadata.tsv").read_text(encoding="utf-8")
    assert metadata == "Keble/1\na tab\na line\nключ\n\n"
    sprite = np.asarray(Image.open(folder / "sprite.png"))
    config = (folder / "projector_config.pbtxt").read_text()
    named = re.findall(r'_path: "(.+)"', config)
    assert set(named) == {"tensors.tsv", "metadata.tsv", "sprite.png"}
    sides = [int(side) for side in re.findall(r"single_image_dim: (\d+)", config)]
    assert sprite.shape == (3 * sides[0], 3 * sides[1], 3)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = sprite[row * sides[0] :, column * sides[1] :][: sides[0], : sides[1]]
        assert (tile == 40 * index).all()


def test_many_images_fit_the_largest_sprite_that_is_shown(tmp_path: Path):
    count = 70_000
    write_embeddings(tmp_path, np.zeros((count, 1)), ["a"] * count, np.zeros((count, 2, 2, 1), np.uint8))
    assert max(Image.open(tmp_path / "metrics/sprite.png").size) <= 8192
