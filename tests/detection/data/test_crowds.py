"""COCO's crowds from the file to the figure, against pycocotools on the same file."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.data.episode_file import read_episodes, write_episodes
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.data.photograph_batches import Sizing, load_batch
from fsljax.detection.data.photograph_episodes import make_episodes
from fsljax.detection.data.sets import coco
from fsljax.detection.data.structures import Detections
from fsljax.detection.evaluation.average_precision import average_precision, coco_average_precision
from fsljax.detection.evaluation.judging import judge

SIDE, CLASSES = 96, 3


def write(root: Path, seed: int, images: int = 8) -> Path:
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    listed, annotations = [], []
    for number in range(1, images + 1):
        Image.new("RGB", (SIDE, SIDE)).save(root / "images" / f"{number}.jpg")
        listed.append({"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE})
        for _ in range(random.integers(0, 6)):
            crowd = bool(random.random() < 0.3)
            x, y, width, height = random.integers([0, 0, 8, 8], [40, 40, 50, 50]).tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "bbox": [x, y, width, height],
                 "category_id": int(random.integers(1, CLASSES + 1)), "iscrowd": int(crowd),
                 "area": width * height}
            )  # fmt: skip
    categories = [{"id": number, "name": f"c{number}"} for number in range(1, CLASSES + 1)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (root / "instances_val.json").write_text(json.dumps(content))
    return root


def detected(annotations: list[dict], random: np.random.Generator) -> list[dict]:
    """Results in COCO's form: most objects, some twice, many parts of crowds, and some of nothing."""
    results = []
    for one in annotations:
        x, y, width, height = one["bbox"]
        for _ in range(random.integers(0, 4) if one["iscrowd"] else random.integers(0, 3)):
            part = random.uniform(0.3, 0.7) if one["iscrowd"] else random.uniform(0.85, 1.1)
            category = one["category_id"] if random.random() < 0.8 else int(random.integers(1, CLASSES + 1))
            box = [x + random.uniform(0, 4), y + random.uniform(0, 4), part * width, part * height]
            results.append({"image_id": one["image_id"], "category_id": category, "bbox": box,
                            "score": float(random.random())})  # fmt: skip
    return results


def pycocotools_figures(file: Path, results: list[dict]) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(12))
def test_a_file_with_crowds_gives_pycocotools_figures(tmp_path: Path, seed: int):
    root = write(tmp_path / "coco", seed)
    content = json.loads((root / "instances_val.json").read_text())
    results = detected(content["annotations"], np.random.default_rng([seed, 1]))
    data = coco.read_folder(root, "val")
    assert data.notes == () and data.crowd is not None
    batch = load_batch(data, (SIDE, SIDE), np.arange(len(data)), Sizing(SIDE, SIDE, multiple=1))
    truths, found = list(batch.ground_truth.of_images()), []
    for number in range(1, len(data) + 1):
        of_image = [one for one in results if one["image_id"] == number]
        corners = np.array([one["bbox"] for one in of_image]).reshape(-1, 4)[:, [1, 0, 3, 2]]
        corners[:, 2:] += corners[:, :2]
        labels = np.array([one["category_id"] - 1 for one in of_image], int)
        found.append(Detections(corners, np.array([one["score"] for one in of_image]), labels))
    ours = coco_average_precision(found, truths, num_classes=CLASSES)
    assert (ours.ap, ours.ap50) == pytest.approx(
        pycocotools_figures(root / "instances_val.json", results), abs=1e-9
    )
    counted_as_wrong = [truth._replace(difficult=None, crowd=None) for truth in truths]
    assert coco_average_precision(found, counted_as_wrong, num_classes=CLASSES).ap50 < ours.ap50


def test_what_is_found_in_a_crowd_is_ignored_by_vocs_rule_too(tmp_path: Path):
    root = write(tmp_path / "coco", 0, images=1)
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]},
               {"id": 2, "image_id": 1, "category_id": 1, "bbox": [24, 0, 40, 48], "iscrowd": 1},
               {"id": 3, "image_id": 1, "category_id": 1, "bbox": [70, 70, 20, 20], "ignore": 1}]  # fmt: skip
    content = json.loads((root / "instances_val.json").read_text())
    (root / "instances_val.json").write_text(json.dumps({**content, "annotations": objects}))
    data = coco.read_folder(root, "val")
    assert (data.difficult[0].tolist(), data.crowd[0].tolist()) == ([False, True, True], [False, True, False])
    batch = load_batch(data, (SIDE, SIDE), np.array([0]), Sizing(SIDE, SIDE, multiple=1))
    boxes = np.array([[0, 24, 20, 40], [20, 30, 40, 44], [70, 70, 90, 90], [0, 0, 20, 20]], float)
    found = Detections(boxes, np.array([0.9, 0.8, 0.75, 0.7]), np.zeros(4, int))
    judged = judge([found], list(batch.ground_truth.of_images()), num_classes=CLASSES)
    assert average_precision(judged, 0) == 1.0 and judged.scores.tolist() == [0.7]


def test_crowds_reach_the_queries_of_episodes(tmp_path: Path):
    root = write(tmp_path / "coco", 3, images=40)
    data = coco.read_folder(root, "val")
    episodes = make_episodes(data, way=2, shots=1, queries_per_class=3, count=4)
    write_episodes(tmp_path / "episodes.json", episodes)
    novel = NovelPhotographs(data, Sizing(SIDE // 2, SIDE // 2, multiple=1))
    read = novel.in_pixels(read_episodes(tmp_path / "episodes.json", content=novel.content))
    truth = read.ground_truth
    assert truth.crowd is not None and truth.crowd.any() and not (truth.crowd & ~truth.difficult).any()
    assert (truth.crowd == (truth.difficult & truth.mask)).all()  # no other object is difficult there
    _, query = novel.images(read, [0, 1], False)
    np.testing.assert_array_equal(query.ground_truth.crowd, truth.crowd[:2])
