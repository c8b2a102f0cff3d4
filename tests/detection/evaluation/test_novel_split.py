"""The published protocol, from generated folders to nAP: VOC's splits, COCO's 60 and 20 classes, lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fsljax import experiment, methods
from fsljax.config.experiments import load
from fsljax.detection.data.annotations.shots import draw_shots, read_shots
from fsljax.detection.data.sets import coco, voc
from fsljax.detection.data.sets.voc import CLASSES
from fsljax.detection.data.structures import Detections, DetectionSet, GroundTruth
from fsljax.detection.evaluation.split_figures import figures_of_seeds, split_figures
from fsljax.errors import UserError

from ..data.voc_folder import write_voc

ROOT = Path(__file__).parents[3]
SIDE = 32
COCO_NOVEL = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat", "dog",
    "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv",
)  # fmt: skip


def picture(kind: int, number: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A tile of a colour of its class on noise, and its box in columns and rows."""
    random = np.random.default_rng([kind, number])
    pixels = random.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    x, y = random.integers(0, 12, 2).tolist()
    pixels[y : y + 18, x : x + 18] = np.random.default_rng(kind).integers(80, 256, 3)
    return pixels, (x, y, x + 18, y + 18)


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOCdevkit of 20 classes: two training images of each a year, and two of the test part."""
    root = tmp_path_factory.mktemp("data") / "VOCdevkit"
    for year, first in (("2007", 0), ("2012", 4)):
        images, listed = {}, {"trainval": [], "test": []}
        for kind, name in enumerate(CLASSES):
            for number in range(first, first + 4):
                split = "test" if year == "2007" and number > 1 else "trainval"
                if year == "2012" and number > 5:
                    continue
                pixels, (x0, y0, x1, y1) = picture(kind, number)
                identity = f"{'2012_' if year == '2012' else ''}{kind:03d}{number:03d}"
                images[identity] = pixels, [(name, (x0 + 1, y0 + 1, x1, y1), 0)]
                listed[split].append(identity)
        folder = write_voc(root / f"VOC{year}", images)
        for split, ids in listed.items():
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout of 80 categories, a training and a validation image of each base class, two of others."""
    root = tmp_path_factory.mktemp("coco")
    names = [*COCO_NOVEL, *(f"base {number}" for number in range(60))]
    categories = [{"id": 1 + kind, "name": name} for kind, name in enumerate(names)]
    (root / "annotations").mkdir()
    for split, numbers in (("train2017", (0, 1)), ("val2017", (2,))):
        (root / split).mkdir()
        images, annotations = [], []
        for kind in range(80):
            for number in numbers[: 2 if kind < 20 else 1]:
                pixels, (x0, y0, x1, y1) = picture(kind, number)
                identity = 1 + len(images) + 1000 * numbers[0]
                Image.fromarray(pixels).save(root / split / f"{identity:012d}.jpg", quality=95)
                images.append(
                    {"id": identity, "file_name": f"{identity:012d}.jpg", "height": 32, "width": 32}
                )
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": identity, "category_id": 1 + kind,
                        "bbox": [x0, y0, x1 - x0, y1 - y0], "area": 18 * 18, "iscrowd": 0,
                    }
                )  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def small(experiment: str, folder: Path, **evaluation: Any) -> ConfigDict:
    """A published experiment with a small network and few steps; the protocol is left as it is."""
    config = load(f"{ROOT}/configs/{experiment}")
    config.data.update({"path": str(folder), "image_size": SIDE})
    config.network.update({"name": "scene_net", "frozen_statistics": False, "unless_described": ()})
    config.network.update({"input_mean": (0.0,), "input_std": (1.0,)})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (12.0, 16.0, 20.0), "sampled": 16})
    config.proposals.update({"keep": 6, "keep_in_test": 48, "before_nms": 96})
    config.rois.update({"sampled": 8, "output_size": 3, "canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 32, "dim": 16})
    config.representatives.update({"per_class": 1})
    config.train.update({"images": 4, "steps": 2, "warmup_steps": 1})
    config.eval.images = 80
    config.eval.update(evaluation)
    return config


def run(config: ConfigDict, folder: Path) -> dict[str, dict[str, float]]:
    experiment.run(config, mode="train_and_evaluate", folder=folder)
    results: dict[str, dict[str, float]] = json.loads((folder / "results.json").read_text())["test"]
    return results


def test_a_split_of_voc_goes_from_its_folder_to_nap50_in_one_command(devkit: Path, tmp_path: Path):
    asked = {"novel_shots": (2,), "seeds": (0, 1), "fine_tune_epochs": (0, 1)}
    test = run(small("repmet_detection_voc.py:split1", devkit, **asked), tmp_path)
    settings = ["novel_2shot_ft0", "novel_2shot_ft1"]
    assert set(test) == {*settings, "base"} and list(test)[-1] == "base"
    for setting in settings:
        figures = test[setting]
        assert figures["examples"] == 40 and figures["runs"] == 2
        for name in ("nap50", "nap50_11point", "nap", "nap75", "bap50", "bap50_11point", "bap"):
            assert 0 <= figures[name] <= 1 and figures[f"{name}_ci95"] >= 0
    assert max(test[setting]["nap50"] for setting in settings) > 0


@pytest.mark.slow
def test_coco_goes_from_its_folder_to_nap_in_one_command(coco_folder: Path, tmp_path: Path):
    asked = {"novel_shots": (1, 2), "seeds": (0,), "fine_tune_epochs": (0,)}
    test = run(small("repmet_detection_coco.py:few_shot", coco_folder, **asked), tmp_path)
    assert list(test) == ["novel_1shot_ft0", "novel_2shot_ft0", "base"]
    for figures in list(test.values())[:2]:
        assert set(figures) == {"nap", "nap50", "nap75", "bap", "bap50", "examples", "runs"}
        assert figures["examples"] == 80


def test_what_lacks_shots_is_refused_before_training(devkit: Path, tmp_path: Path):
    config = small("repmet_detection_voc.py:split2", devkit, novel_shots=(1, 5))
    with pytest.raises(UserError, match=r"5 boxes per new class.* aeroplane in 4, bottle in 4"):
        experiment.run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    with config.unlocked():
        config.data.novel = ()
    with pytest.raises(UserError, match=r"name these in config\.data\.novel"):
        experiment.run(config, mode="train_and_evaluate", folder=tmp_path / "run")


def test_episodes_of_too_few_images_are_refused_before_training(devkit: Path, tmp_path: Path):
    asked = {"novel_shots": (), "episodes": 2, "episodes_file": str(tmp_path / "episodes.json")}
    config = small("repmet_detection_voc.py:split1", devkit, **asked)
    with pytest.raises(UserError, match=r"An episode needs 20 images .* --config\.eval\.episodes=0"):
        experiment.run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    config.eval.update({"queries": 1, "supports": 1, "distractors": True})
    with pytest.raises(UserError, match=r"config\.eval\.distractors is for scenes"):
        experiment.run(config, mode="train_and_evaluate", folder=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_configs_hold_the_splits_of_the_literature(devkit: Path, coco_folder: Path):
    novel = {
        "split1": {"bird", "bus", "cow", "motorbike", "sofa"},
        "split2": {"aeroplane", "bottle", "cow", "horse", "sofa"},
        "split3": {"boat", "cat", "motorbike", "sheep", "sofa"},
    }
    for name, expected in novel.items():
        typed: Any = methods.check(small(f"repmet_detection_voc.py:{name}", devkit))
        data: Any = methods.load(typed)
        assert set(typed.data.novel) == expected and set(data.class_names) == set(CLASSES) - expected
        assert typed.eval.novel_shots == (1, 2, 3, 5, 10)
    typed = methods.check(small("repmet_detection_coco.py:few_shot", coco_folder))
    assert set(typed.data.novel) == set(COCO_NOVEL) and len(methods.load(typed).class_names) == 60


def shots_of(devkit: Path) -> DetectionSet:
    typed: Any = methods.check(small("repmet_detection_voc.py:split1", devkit))
    data: Any = methods.load(typed)
    return data.shots


def test_fewer_shots_are_the_first_of_more_and_each_is_of_its_class(devkit: Path):
    data = shots_of(devkit)
    many, few, other = draw_shots(data, 4, 0), draw_shots(data, 2, 0), draw_shots(data, 4, 1)
    np.testing.assert_array_equal(many.rows[:, :2], few.rows)
    np.testing.assert_array_equal(many.boxes[:, :2], few.boxes)
    assert not np.array_equal(many.rows, other.rows)
    for label, rows in enumerate(many.rows):
        assert len(set(rows.tolist())) == 4
        for row, box in zip(rows, many.boxes[label], strict=True):
            mine = data.boxes[row][data.labels[row] == label]
            assert any(np.array_equal(box, one) for one in mine)


def test_published_lists_of_voc_are_read(devkit: Path, tmp_path: Path):
    data = shots_of(devkit)
    for label, name in enumerate(data.class_names):
        rows = [row for row in range(len(data)) if (data.labels[row] == label).any()][1:3]
        paths = [f"datasets/VOC2007/JPEGImages/{data.ids[row]}.jpg" for row in rows]
        (tmp_path / f"box_2shot_{name}_train.txt").write_text("\n".join(paths) + "\n")
    pattern = f"{tmp_path}/box_{{shots}}shot_{{class}}_train.txt"
    read = read_shots(pattern, data, 2, 0)
    for label, rows in enumerate(read.rows):
        listed = [row for row in range(len(data)) if (data.labels[row] == label).any()][1:3]
        assert rows.tolist() == listed
        np.testing.assert_array_equal(read.boxes[label, 0], data.boxes[listed[0]][0])
    with pytest.raises(UserError, match=r"box_3shot_bird_train\.txt cannot be read"):
        read_shots(pattern, data, 3, 0)
    (tmp_path / "box_3shot_bird_train.txt").write_text("009999.jpg\n")
    with pytest.raises(UserError, match=r"names the image '009999\.jpg', which the training split lacks"):
        read_shots(pattern, data, 3, 0)
    first = (tmp_path / "box_2shot_bird_train.txt").read_text()
    (tmp_path / "box_3shot_bird_train.txt").write_text(first)
    with pytest.raises(UserError, match=r"holds 2 boxes of 'bird', but 3 were requested"):
        read_shots(pattern, data, 3, 0)


def test_published_lists_of_coco_are_read_by_the_numbers_of_images(coco_folder: Path, tmp_path: Path):
    data = coco.read_folder(coco_folder, "train2017")
    stored = json.loads((coco_folder / "annotations" / "instances_train2017.json").read_text())
    for category in stored["categories"]:
        annotations = [one for one in stored["annotations"] if one["category_id"] == category["id"]][-1:]
        number = annotations[0]["image_id"]
        images = [{"id": number, "file_name": f"COCO_train2014_{number:012d}.jpg", "height": 32, "width": 32}]
        content = {"images": images, "annotations": annotations, "categories": stored["categories"]}
        path = tmp_path / "seed3" / f"full_box_1shot_{category['name']}_trainval.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    pattern = f"{tmp_path}/seed{{seed}}/full_box_{{shots}}shot_{{class}}_trainval.json"
    read = read_shots(pattern, data, 1, 3)
    for label in range(80):
        row = int(read.rows[label, 0])
        assert data.labels[row].tolist() == [label]
        np.testing.assert_array_equal(read.boxes[label, 0], data.boxes[row][0])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"shots_file": "lists.txt"}, r"config\.eval\.shots_file is 'lists\.txt'; it must be a path"),
        ({"shots_file": "{class}.txt"}, r"the same file for shots 1 and 2"),
        ({"shots_file": "{shots}_{class}.txt", "seeds": (0, 1)}, r"the same file for seed 0 and 1"),
    ],
)
def test_lists_that_cannot_be_told_apart_are_refused(devkit: Path, fields: dict[str, Any], told: str):
    config = small("repmet_detection_voc.py:split1", devkit, novel_shots=(1, 2), **{"seeds": (0,), **fields})
    with pytest.raises(UserError, match=told):
        methods.check(config)


def scattered(seed: int) -> tuple[list[Detections], list[GroundTruth]]:
    """Detections near objects of five classes, some of them crowds, in twelve images."""
    random = np.random.default_rng(seed)
    found, truths = [], []
    for _ in range(12):
        count = int(random.integers(1, 6))
        corner = random.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 30, (count, 2))], axis=1).astype(
            np.float32
        )
        labels = random.integers(0, 5, count)
        crowd = random.random(count) < 0.1
        truths.append(GroundTruth(boxes, labels, np.ones(count, bool), crowd, crowd))
        near = np.repeat(boxes, 3, axis=0) + random.normal(0, 3, (3 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        guessed = np.where(
            random.random(3 * count) < 0.8, np.repeat(labels, 3), random.integers(0, 5, 3 * count)
        )
        found.append(
            Detections(near.astype(np.float32), random.random(3 * count).astype(np.float32), guessed)
        )
    return found, truths


@pytest.mark.parametrize("seed", [0, 1])
def test_nap_is_that_of_pycocotools(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, truths = scattered(seed)

    def xywh(box: np.ndarray) -> list[float]:
        y0, x0, y1, x1 = np.asarray(box, float).tolist()
        return [x0, y0, x1 - x0, y1 - y0]

    annotations = [
        {
            "id": 1 + 100 * image + row, "image_id": 1 + image, "category_id": 1 + int(truth.labels[row]),
            "bbox": xywh(box), "area": float(np.prod(xywh(box)[2:])), "iscrowd": int(truth.crowd[row]),
        }
        for image, truth in enumerate(truths) for row, box in enumerate(truth.boxes)
    ]  # fmt: skip
    results = [
        {"image_id": 1 + image, "category_id": 1 + int(label), "bbox": xywh(box), "score": float(score)}
        for image, one in enumerate(found)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    file = tmp_path / "truth.json"
    file.write_text(
        json.dumps(
            {
                "images": [{"id": 1 + image, "height": 100, "width": 100} for image in range(len(truths))],
                "annotations": annotations,
                "categories": [{"id": 1 + kind, "name": str(kind)} for kind in range(5)],
            }
        )
    )
    truth = COCO(str(file))

    def reference(categories: list[int]) -> np.ndarray:
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats[:3]

    figures = split_figures(found, truths, 2, 5, "coco")
    capsys.readouterr()
    expected = [*reference([1, 2]), *reference([3, 4, 5])[:2]]
    measured = [figures[name] for name in ("nap", "nap50", "nap75", "bap", "bap50")]
    np.testing.assert_allclose(measured, expected, atol=1e-6)
    by_voc = split_figures(found, truths, 2, 5, "voc")
    assert by_voc["nap"] == figures["nap"] and by_voc["nap50"] != figures["nap50"]


def test_a_detection_by_hand_is_counted_by_area_and_at_eleven_recalls():
    box = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    truth = GroundTruth(box, np.array([0, 0]), np.ones(2, bool))
    found = Detections(box[:1], np.array([0.9], np.float32), np.array([0]))
    figures = split_figures([found], [truth], 1, 2, "voc")
    assert figures["nap50"] == pytest.approx(0.5) and figures["nap50_11point"] == pytest.approx(6 / 11)
    assert "bap50" not in figures


def test_the_interval_is_over_seeds():
    means = figures_of_seeds([{"nap": 0.2}, {"nap": 0.4}])
    assert means == {"nap": pytest.approx(0.3), "nap_ci95": pytest.approx(1.96 * np.sqrt(0.02) / np.sqrt(2))}
    assert figures_of_seeds([{"nap": 0.2}]) == {"nap": 0.2}


def test_a_year_s_names_are_voc_s(devkit: Path):
    assert voc.read_folder(devkit, "test", year=2007).class_names == CLASSES
