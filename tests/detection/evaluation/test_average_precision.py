"""Average precision against pycocotools, plain loops for VOC's rules, and cases worked out by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.data.structures import Detections, ground_truth_of_image
from fsljax.detection.evaluation import average_precision as ap
from fsljax.detection.evaluation.judging import judge
from fsljax.errors import UserError

CLASSES = 4


def random_boxes(generator, count: int) -> np.ndarray:
    starts = generator.uniform(0, 70, (count, 2))
    return np.concatenate([starts, starts + generator.uniform(5, 30, (count, 2))], axis=1)


def found_near(generator, boxes, labels, classes: int, *, ties: bool) -> Detections:
    """Detections of most of the boxes, some twice, some of the wrong class; and some of nothing."""
    picked = np.flatnonzero(generator.random(len(boxes)) < 0.8)
    picked = np.concatenate([picked, picked[generator.random(len(picked)) < 0.4]])
    sides = np.tile(boxes[picked, 2:] - boxes[picked, :2], 2)
    near = boxes[picked] + generator.normal(size=(len(picked), 4)) * 0.07 * sides
    wrong = random_boxes(generator, generator.integers(0, 5))
    of_wrong = generator.integers(0, classes, len(wrong))
    of_near = np.where(generator.random(len(picked)) < 0.1, (labels[picked] + 1) % classes, labels[picked])
    scores = generator.random(len(near) + len(wrong))
    if ties:
        scores = np.round(scores, 1)
    return Detections(np.concatenate([near, wrong]), scores, np.concatenate([of_near, of_wrong]))


def scenes(seed: int, *, images: int = 12, crowds: bool = False, difficult: bool = False, ties: bool = False):
    generator = np.random.default_rng(seed)
    detections, truths = [], []
    for image in range(images):
        count = generator.integers(0, 8) if image else 0
        boxes, labels = random_boxes(generator, count), generator.integers(0, CLASSES - 1, count)
        detections.append(found_near(generator, boxes, labels, CLASSES, ties=ties))
        truths.append(
            ground_truth_of_image(
                boxes,
                labels,
                generator.random(count) < 0.3 if difficult else None,
                generator.random(count) < 0.3 if crowds else None,
            )
        )
    detections[3] = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    return detections, truths


def coco_reference(detections, truths, classes: int):
    """pycocotools' precisions `[ious, recalls, classes]`, −1 for a class without truths."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def corner_and_sides(box):
        top, left, bottom, right = map(float, box)
        return [left, top, right - left, bottom - top]

    annotations, results = [], []
    for image, (found, there) in enumerate(zip(detections, truths, strict=True)):
        crowd = np.zeros(len(there.labels), bool) if there.crowd is None else there.crowd
        for box, label, many in zip(there.boxes, there.labels, crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "category_id": int(label),
                    "bbox": corner_and_sides(box), "iscrowd": int(many),
                    "area": float((box[2] - box[0]) * (box[3] - box[1])),
                }
            )  # fmt: skip
        for box, score, label in zip(*found[:3], strict=True):
            results.append(
                {
                    "image_id": image, "category_id": int(label), "bbox": corner_and_sides(box),
                    "score": float(score),
                }
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": label, "name": str(label)} for label in range(classes)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 2]


def assert_is_coco(detections, truths, classes: int) -> ap.Coco:
    found = ap.coco_average_precision(detections, truths, num_classes=classes)
    reference = coco_reference(detections, truths, classes)
    there = (reference > -1).all(axis=(0, 1))
    np.testing.assert_allclose(found.of_classes[there], reference.mean(axis=(0, 1))[there], atol=1e-9)
    assert np.isnan(found.of_classes[~there]).all()
    for value, ious in ((found.ap, slice(None)), (found.ap50, slice(0, 1)), (found.ap75, slice(5, 6))):
        np.testing.assert_allclose(value, reference[ious][..., there].mean(), atol=1e-9)
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("crowds", [False, True])
def test_coco_is_pycocotools(crowds, ties):
    for seed in range(6):
        found = assert_is_coco(*scenes(seed, crowds=crowds, ties=ties), CLASSES)
        assert 0.05 < found.ap < found.ap50 < 1
        assert np.isnan(found.of_classes[-1])


def test_coco_counts_the_best_hundred_of_a_class():
    generator = np.random.default_rng(0)
    boxes, labels = random_boxes(generator, 90), np.zeros(90, int)
    found = Detections(
        np.concatenate([boxes, random_boxes(generator, 60), boxes[:20]]),
        generator.random(170),
        np.repeat([0, 1], [150, 20]),
    )
    assert_is_coco([found], [ground_truth_of_image(boxes, labels)], 2)
    unlimited = judge([found], [ground_truth_of_image(boxes, labels)], num_classes=2, rule="coco")
    limited = judge([found], [ground_truth_of_image(boxes, labels)], num_classes=2, rule="coco", most=100)
    assert (len(unlimited.scores), len(limited.scores)) == (170, 120)
    assert set(limited.scores[limited.labels == 0]) == set(np.sort(found.scores[:150])[50:])


def test_coco_on_its_own_annotations(detection_dir: Path):
    content = json.loads((detection_dir / "coco128" / "instances_val.json").read_text())
    names = {category["id"]: label for label, category in enumerate(content["categories"])}
    generator = np.random.default_rng(0)
    detections, truths = [], []
    for image in content["images"]:
        marked = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        corners = np.array([one["bbox"] for one in marked]).reshape(-1, 4)[:, [1, 0, 3, 2]]
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
        labels = np.array([names[one["category_id"]] for one in marked], int)
        crowd = np.array([bool(one["iscrowd"]) for one in marked], bool)
        detections.append(found_near(generator, boxes, labels, len(names), ties=False))
        truths.append(ground_truth_of_image(boxes, labels, None, crowd))
    assert assert_is_coco(detections, truths, len(names)).ap50 > 0.3


def voc_reference(detections, truths, label: int, threshold: float):
    """The development kit's loop: which detections of a class count, and whether they are right."""
    rows = [
        (-score, image, box)
        for image, found in enumerate(detections)
        for box, score, of in zip(*found[:3], strict=True)
        if of == label
    ]
    taken, counted = set(), []
    for _, image, box in sorted(rows, key=lambda row: row[0]):
        best, at = -1.0, -1
        there = truths[image]
        for index in np.flatnonzero(there.labels == label):
            other = there.boxes[index]
            height = min(box[2], other[2]) - max(box[0], other[0])
            width = min(box[3], other[3]) - max(box[1], other[1])
            shared = max(height, 0) * max(width, 0)
            areas = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
            if shared / (areas - shared) > best:
                best, at = shared / (areas - shared), index
        if best >= threshold and there.difficult[at]:
            continue
        right = best >= threshold and (image, at) not in taken
        counted.append(right)
        if right:
            taken.add((image, at))
    positives = sum(((there.labels == label) & ~there.difficult).sum() for there in truths)
    return counted, positives


def test_voc_is_the_loop_and_both_areas_are_their_definitions():
    for seed in range(4):
        detections, truths = scenes(seed, difficult=True)
        judged = judge(detections, truths, num_classes=CLASSES, iou_threshold=0.5)
        of_all = ap.class_average_precisions(judged)
        of_11 = ap.class_average_precisions(judged, interpolation="11")
        for label in range(CLASSES - 1):
            counted, positives = voc_reference(detections, truths, label, 0.5)
            np.testing.assert_array_equal(judged.right[judged.labels == label], counted)
            assert judged.positives[label] == positives
            precision, recall = ap.precision_recall(judged, label)
            curve = [(sum(counted[:n]) / n, sum(counted[:n]) / positives) for n in range(1, len(counted) + 1)]
            np.testing.assert_allclose(np.transpose([precision, recall]), curve)
            steps = [max([p for p, r in curve if r >= at / 10], default=0.0) for at in range(11)]
            assert of_11[label] == pytest.approx(np.mean(steps))
            reached = sorted({r for _, r in curve if r > 0})
            area = sum(
                (r - before) * max(p for p, other in curve if other >= r)
                for before, r in zip([0, *reached], reached, strict=False)
            )
            assert of_all[label] == pytest.approx(area)
        assert np.isnan(of_all[-1])
        assert np.isnan(of_11[-1])


def test_rules_where_they_differ():
    truths = [ground_truth_of_image(np.array([[0, 0, 10, 10], [0, 2, 10, 12.0]]), np.array([0, 0]))]
    # Both lie nearest to the first; the second one overlaps with the other truth by 0.6 too.
    found = [
        Detections(np.array([[0, 0, 10, 10], [0, 0.5, 10, 10.5]]), np.array([0.9, 0.8]), np.array([0, 0]))
    ]
    assert list(judge(found, truths, num_classes=1).right) == [True, False]
    assert list(judge(found, truths, num_classes=1, rule="coco").right) == [True, True]


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_difficult_truths_and_crowds_are_neither_missed_nor_wrong(rule):
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60.0]])
    truths = [ground_truth_of_image(boxes, np.zeros(3, int), np.array([0, 0, 1]), np.array([0, 1, 0]))]
    # Right; two within the crowd; the difficult one; nothing.
    found = np.array([[0, 0, 10, 10], [20, 20, 25, 25], [21, 21, 26, 26], [50, 50, 60, 60], [80, 80, 90, 90]])
    judged = judge(
        [Detections(found, np.linspace(0.9, 0.5, 5), np.zeros(5, int))], truths, num_classes=1, rule=rule
    )
    assert list(judged.right) == [True, False]
    assert list(judged.scores) == [0.9, 0.5]
    assert list(judged.positives) == [1]


def test_nothing_found_and_nothing_there():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    empty = ground_truth_of_image(np.zeros((0, 4)), np.zeros(0, int))
    one = ground_truth_of_image(np.array([[0, 0, 5, 5]]), np.array([1]))
    wrong = Detections(np.array([[0, 0, 5, 5]]), np.array([0.5]), np.array([0]))
    for interpolation in ("all", "11", "101"):
        missed = judge([nothing, nothing], [one, empty], num_classes=2)
        assert ap.average_precision(missed, interpolation=interpolation) == 0
        np.testing.assert_array_equal(
            ap.class_average_precisions(missed, interpolation=interpolation), [np.nan, 0]
        )
        assert np.isnan(
            ap.average_precision(judge([wrong], [empty], num_classes=2), interpolation=interpolation)
        )
        assert ap.average_precision(judge([wrong], [one], num_classes=2), interpolation=interpolation) == 0
    assert np.isnan(ap.coco_average_precision([nothing], [empty], num_classes=2).ap)
    assert ap.coco_average_precision([nothing], [one], num_classes=2).ap == 0
    assert np.isnan(ap.average_precision(judge([], [], num_classes=1)))


def test_input_that_cannot_be():
    one = ground_truth_of_image(np.array([[0, 0, 5, 5]]), np.array([1]))
    found = Detections(np.array([[0, 0, 5, 5]]), np.array([np.nan]), np.array([1]))
    with pytest.raises(UserError, match="Scores of image 0 are not finite"):
        judge([found], [one], num_classes=2)
    with pytest.raises(ValueError, match="Labels of image 0 are not from 0 to 0"):
        judge([found._replace(scores=np.array([0.5]))], [one], num_classes=1)
    with pytest.raises(ValueError, match="2 images have detections and 1 ground truth"):
        judge([found, found], [one], num_classes=2)
    with pytest.raises(ValueError, match="must be 'voc' or 'coco'"):
        judge([found], [one], num_classes=2, rule="voc07")
    with pytest.raises(ValueError, match="'all', '11' or '101'"):
        ap.average_precision(
            judge([found._replace(scores=np.array([0.5]))], [one], num_classes=2), interpolation="12"
        )
