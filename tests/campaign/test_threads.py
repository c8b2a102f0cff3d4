"""Threads that enrol, forget, predict and save at once, against what they would have done one by one.

All images of a class are the same picture. Whatever order the threads run in, the mean of a class is then
that picture's embedding, so that every answer can be judged, and in the end no enrolment may lack.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax import methods
from fsljax.api import Classifier, Detector
from fsljax.detection.model.build import build_network
from fsljax.detection.model.trained import TrainedDetector
from fsljax.methods import protonet, repmet, repmet_detector
from fsljax.networks import build
from fsljax.training.checkpoints import Model

pytestmark = pytest.mark.campaign

SAMPLE = 4
THREADS = 4
ACTIONS = 10
PICTURES = np.kron(np.random.default_rng(0).uniform(0, 255, (4, 7, 7)), np.ones((4, 4))).astype(np.uint8)
BOX = [4.0, 6.0, 20.0, 26.0]


def made_classifier(method: Any) -> Classifier:
    config = method.default_config()
    config.network.filters = 4
    config.data.update({"name": "omniglot", "channels": 1, "image_size": 28})
    config.network.update({"name": "conv4", "trainable": "all"})
    images = np.zeros((1, 28, 28, 1), np.float32)
    variables = build(config).init(jax.random.key(0), images, running_average=True)
    return Classifier(config, Model(1, jax.device_get(variables)))


@pytest.fixture(scope="module", params=["protonet", "repmet"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return made_classifier({"protonet": protonet, "repmet": repmet}[request.param])


@pytest.fixture(scope="module")
def detector() -> Detector:
    config = repmet_detector.default_config()
    config.name = "small"
    config.data.update({"image_size": 32, "channels": 1})
    config.scenes.size = 32
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (8.0, 16.0, 24.0), "before_nms": 32, "keep": 8, "keep_in_test": 16})
    config.head.update({"hidden": 16, "dim": 8})
    checked = methods.check(config)
    network = build_network(checked, 3, in_test=True)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    variables = {**variables, "params": {**variables["params"], "representatives": jnp.ones((3, 1, 8))}}
    return Detector(TrainedDetector(checked, network, jax.device_get(variables), 3, 7))


@contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(works: list[Callable[[], None]]) -> None:
    faults: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    if faults:
        raise faults[0]


def own(thread: int, number: int) -> str:
    """A label that one thread alone enrols and forgets; its last digit is its picture."""
    return f"{thread}:{number}"


def picture_of(label: str) -> int:
    return int(label[-1])


def plans(seed: int, count: int = ACTIONS) -> list[list[tuple[str, str, int]]]:
    """What each thread does: an action, its label, and how many images."""
    chosen = random.Random(seed)
    actions = ["enroll own", "enroll shared", "enroll shared", "forget", "look", "look", "save"]
    return [
        [
            (chosen.choice(actions), own(thread, chosen.randrange(4)), chosen.choice([1, 2, 4]))
            for _ in range(count)
        ]
        for thread in range(THREADS)
    ]


def outcome(plan: list[list[tuple[str, str, int]]]) -> Counter[str]:
    """How many images each class has in the end; the shared ones begin with one."""
    counts = Counter({f"shared{number}": 1 for number in range(4)})
    for steps in plan:
        for action, label, count in steps:
            if action == "enroll own":
                counts[label] += count
            elif action == "enroll shared":
                counts[f"shared{picture_of(label)}"] += count
            elif action == "forget":
                del counts[label]
    return +counts


def in_order(
    plan: list[list[tuple[str, str, int]]], do: dict[str, Callable[[str, int], object]]
) -> list[Any]:
    """For each thread what it is to do: it forgets only what it has enrolled."""

    def work(steps: list[tuple[str, str, int]]) -> None:
        enrolled: set[str] = set()
        for action, label, count in steps:
            if action == "enroll own":
                enrolled.add(label)
                do["enroll"](label, count)
            elif action == "enroll shared":
                do["enroll"](f"shared{picture_of(label)}", count)
            elif action == "forget" and label in enrolled:
                enrolled.remove(label)
                do["forget"](label, count)
            elif action in ("look", "save"):
                do[action](label, count)

    return [lambda steps=steps: work(steps) for steps in plan]


def test_a_classifier(classifier: Classifier, tmp_path: Path, rounds):
    embeddings = classifier.embed(PICTURES)
    by_representatives = "supports" in classifier._enrolled.head.arrays()

    def enroll(label: str, count: int) -> None:
        classifier.enroll(np.repeat(PICTURES[[picture_of(label)]], count, axis=0), label)

    def look(label: str, count: int) -> None:
        number = picture_of(label)
        images = np.repeat(PICTURES[[number]], count, axis=0)
        answers = {picture_of(str(answer)) for answer in classifier.predict(images).tolist()}
        # By representatives a class of many images outweighs a nearer one of few.
        assert answers == {number} or by_representatives
        np.testing.assert_allclose(classifier.predict_proba(images).sum(axis=1), 1, rtol=1e-4)
        assert (classifier.confidence(images) >= 0).all()

    def check(known: Classifier) -> Counter[str]:
        arrays = known._enrolled.head.arrays()
        if not by_representatives:
            counts, means = arrays["counts"], arrays["sums"] / arrays["counts"][:, None]
        else:
            counts = arrays["supports_counts"]
            means = arrays["supports"][np.cumsum(counts) - 1]
        rows = [picture_of(label) for label in known.classes]
        np.testing.assert_allclose(means, embeddings[rows], rtol=1e-4, atol=1e-4)
        return Counter(dict(zip(known.classes, counts.tolist(), strict=True)))

    def save(label: str, count: int) -> None:
        if saves:
            classifier.save(tmp_path / "saved")

    for seed in rounds(1 if by_representatives else SAMPLE):  # each number of them is compiled
        saves = seed % 5 == 0
        for label in classifier.classes:
            classifier.forget(label)
        classifier.enroll(PICTURES, [f"shared{number}" for number in range(4)])
        plan = plans(seed)
        at_once(
            in_order(
                plan,
                {
                    "enroll": enroll,
                    "forget": lambda label, _: classifier.forget(label),
                    "look": look,
                    "save": save,
                },
            )
        )
        assert check(classifier) == outcome(plan)
        if (tmp_path / "saved").exists():
            check(Classifier.load(tmp_path / "saved"))


def test_a_detector(detector: Detector, tmp_path: Path, rounds):
    def enroll(label: str, count: int) -> None:
        detector.enroll(PICTURES[[picture_of(label)] * count], [BOX] * count, label)

    def look(label: str, count: int) -> None:
        found = detector.detect(PICTURES[:count], threshold=0.0, most=3)
        assert len(found.labels) == count
        detector.detect(PICTURES[:1], labels=f"shared{picture_of(label)}", threshold=0.0)

    def save(label: str, count: int) -> None:
        if saves:
            detector.save(tmp_path / "saved")

    detector.enroll(PICTURES, [BOX] * 4, [f"shared{number}" for number in range(4)])
    single = {number: detector._representatives[f"shared{number}"] for number in range(4)}

    def check(known: Detector) -> Counter[str]:
        counts = Counter[str]()
        for label, rows in known._representatives.items():
            one = single[picture_of(str(label))]
            counts[str(label)] = len(rows) // len(one)
            wanted = np.tile(one, (counts[str(label)], 1))
            np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5)
        return counts

    for seed in rounds(1):
        saves = seed % 5 == 0
        for label in detector.classes:
            detector.forget(label)
        detector.enroll(PICTURES, [BOX] * 4, [f"shared{number}" for number in range(4)])
        plan = plans(seed, ACTIONS // 2)  # each number of representatives is compiled
        at_once(
            in_order(
                plan,
                {
                    "enroll": enroll,
                    "forget": lambda label, _: detector.forget(label),
                    "look": look,
                    "save": save,
                },
            )
        )
        assert check(detector) == outcome(plan)
        if (tmp_path / "saved").exists():
            check(Detector.load(tmp_path / "saved"))
