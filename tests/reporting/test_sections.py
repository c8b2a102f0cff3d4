"""Sections of the report."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import ml_collections
import numpy as np
import pytest

from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.sections import (
    EpisodePicture,
    config_section,
    curves_section,
    embedding_map_section,
    environment_section,
    episodes_section,
    results_section,
)

EVIL = '<script>alert("&")</script>'


class Page(HTMLParser):
    """Elements and texts of a piece of HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.classes.update((dict(attrs).get("class") or "").split())

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def episode(names: tuple[str, ...] = ("a", "b", "c"), shot: int = 2) -> EpisodePicture:
    generator = np.random.default_rng(0)
    return EpisodePicture(
        support_images=generator.integers(0, 256, (3, shot, 8, 8, 3)).astype(np.uint8),
        support_names=names,
        query_images=generator.uniform(size=(6, 8, 8, 3)),
        query_labels=np.array([0, 0, 1, 1, 2, 2]),
        predictions=np.array([0, 1, 1, 1, 2, 0]),
    )


def test_results_beside_published_ones():
    results = {"test": {"5way_1shot": {"accuracy": 0.98914, "ci95": 0.0005, "episodes": 10000}}}
    section = results_section(results, {"5way_1shot": {"Snell et al. 2017": 0.988}})
    page = Page(section.html)
    assert page.texts[:8] == [
        "setting", "accuracy, %", "episodes", "Snell et al. 2017", "5-way", "1-shot", "98.91", "± 0.05"
    ]  # fmt: skip
    assert "98.80" in page.texts
    assert "published" in page.texts[-1]
    assert "ransductive" not in section.text_before
    assert page.classes["transductive"] == 0


def test_transductive_results_are_told_apart():
    figures = {"accuracy": 0.99, "ci95": 0.0005, "episodes": 600}
    section = results_section({"test": {"5way_1shot": figures, "5way_1shot_transductive": figures}})
    page = Page(section.html)
    assert page.classes["transductive"] == 1
    assert "transductive" in page.text
    assert "Transductive" in section.text_before
    assert "published" not in page.text


def test_settings_that_are_no_episodes_are_explained():
    figures = {"accuracy": 0.99, "ci95": 0.0005, "examples": 600}
    test = {"nearest_cluster": figures, "hierarchy_recovery": figures}
    section = results_section({"test": test})
    assert "Nearest cluster: the most likely class" in section.text_before
    assert "Hierarchy recovery: classes were merged" in section.text_before
    assert "Nearest neighbour" not in section.text_before
    many = {f"recall_at_{k}": 0.5 for k in range(1, 9)}
    assert Page(section.html).classes["many"] == 0
    assert Page(results_section({"test": {"nearest_cluster": many}}).html).classes["many"] == 1


def test_without_results_or_history():
    assert "No test results" in results_section({}).html
    assert "No training history" in curves_section([]).html
    assert "No training history" in curves_section([{"step": 3}]).html


def test_curves_carry_their_last_figures():
    history = [{"step": s, "train/accuracy": s / 100, "validation/accuracy": s / 200} for s in range(1, 80)]
    page = Page(curves_section(history).html)
    assert page.tags["svg"] == 1
    assert page.texts[:5] == ["accuracy, %", "train", "79", "validation", "39.5"]


def test_episodes_show_what_was_right_and_what_a_wrong_answer_was_taken_for():
    page = Page(episodes_section([episode(), episode(shot=1)]).html)
    assert page.texts[:4] == ["3-way 2-shot", "4 of 6 correct", "a", "✓"]
    assert page.classes["right"] == 8
    assert page.classes["wrong"] == 4
    assert page.classes["taken-for"] == 4
    assert page.tags["img"] == 3 * 2 + 3 * 1 + 2 * 6 + 4
    assert page.texts[3:6] == ["✓", "✗", "b"]


def test_an_episode_that_is_not_shown_by_chance_says_why():
    chosen = EpisodePicture(**(vars(episode()) | {"remark": "the hardest of 100"}))
    assert "4 of 6 correct, the hardest of 100" in Page(episodes_section([chosen]).html).texts


def test_names_from_users_are_text():
    names = (EVIL, "Old_Church/1", "c")
    html = episodes_section([episode(names)]).html
    html += embedding_map_section(np.eye(6), np.arange(6) // 2, names, np.zeros((6, 4, 4, 1))).html
    html += config_section({"name": EVIL, EVIL: {"a": EVIL}}).html
    html += environment_section({EVIL: EVIL}, command=EVIL).html
    html += curves_section([{"step": 1, EVIL: 1.0, f"train/{EVIL}": 2.0}]).html
    html += results_section({"test": {EVIL: {"accuracy": 0.5}}}, {EVIL: {EVIL: 0.1}}).html
    page = Page(html)
    assert page.tags["script"] == 0
    assert EVIL in page.text
    assert "Old_<wbr>Church/<wbr>1" in html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_names": ("a",)}, "1 names for an episode of 3 classes"),
        ({"predictions": np.zeros(5, int)}, r"predictions must be \[6\]"),
        ({"query_labels": np.full(6, 3)}, "query_labels must lie between 0 and 2"),
    ],
)
def test_episodes_that_contradict_themselves_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        EpisodePicture(**(vars(episode()) | change))


def test_map_names_its_classes_and_is_thinned_out():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 10)
    section = embedding_map_section(
        generator.normal(size=(300, 8)),
        labels,
        [f"class{i}" for i in range(30)],
        generator.integers(0, 256, (300, 8, 8, 3)).astype(np.uint8),
        max_points=60,
        max_classes=6,
    )
    assert section.text_before.startswith("60 images of 6 classes")
    page = Page(section.html)
    assert page.classes["entry"] == 6
    assert page.tags["image"] == 6
    assert (
        sum(path.count("M") for path in re.findall(r'<path d="([^"]+)"[^>]*class="points"', section.html))
        == 60
    )


def test_a_map_with_clusters_marks_their_centroids():
    generator = np.random.default_rng(0)
    centroids = 20 * generator.normal(size=(12, 2, 8))
    labels = np.repeat(np.arange(12), 10)
    embeddings = centroids[labels, np.arange(120) % 2] + generator.normal(size=(120, 8))
    images = generator.integers(0, 256, (120, 8, 8, 3)).astype(np.uint8)
    names = [f"class{i}" for i in range(12)]
    clusters = Clusters(centroids, np.full((12, 2), 5))
    section = embedding_map_section(embeddings, labels, names, images, clusters=clusters)
    page = Page(section.html)
    assert section.text_before.startswith("80 images of 8 classes, placed by t-SNE")
    assert "Large marks with an outline are the centroids" in section.text_before
    assert page.classes["centroid"] == 16
    assert page.classes["points"] == page.classes["mark"] == 16
    of_representatives = embedding_map_section(
        embeddings, labels, names, images, clusters=clusters, called="representative"
    )
    assert "outline are the representatives; each image" in of_representatives.text_before
    assert "shape of the nearest representative" in of_representatives.text_before
    assert ": representative</title>" in of_representatives.html
    assert "centroid of a cluster" not in of_representatives.html
    without = embedding_map_section(embeddings, labels, names, images, classes_seen=True)
    assert without.text_before.startswith("120 images of 12 classes, placed by t-SNE")
    assert "centroid" not in without.text_before
    assert Page(without.html).classes["centroid"] == 0


def test_maps_that_cannot_be_drawn():
    images = np.zeros((2, 4, 4, 1))
    with pytest.raises(ValueError, match="3 embeddings, 2 labels and 2 images"):
        embedding_map_section(np.eye(3), np.arange(2), ["a", "b"], images)
    nothing = embedding_map_section(np.full((2, 3), np.nan), np.arange(2), ["a", "b"], images)
    assert "no finite embeddings" in nothing.html


def test_config_keeps_its_nesting():
    config = ml_collections.ConfigDict(
        {"name": "x", "seed": 0, "train": {"steps": 10, "inner": {"deep": (1, 5)}, "path": "", "empty": ()}}
    )
    page = Page(config_section(config).html)
    assert page.text == "name x seed 0 train empty – inner deep 1, 5 path – steps 10"
    assert page.tags["table"] == 2


def test_environment_tells_the_command_as_a_shell_takes_it():
    page = Page(environment_section(command=["python", "launch.py", "--workdir=runs/a b"]).html)
    assert page.texts[-1] == "python launch.py '--workdir=runs/a b'"
    assert "jax" in page.texts
    assert Page(environment_section({"jax": "1"}).html).texts == ["jax", "1"]
