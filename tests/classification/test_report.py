"""Sections of a classification's report."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fsljax.classification.report import (
    cluster_gallery_section,
    confused_pairs_section,
    representatives_in_use_section,
)
from fsljax.reporting.embedding_map import Clusters

EVIL = '<script>alert("&")</script>'
NAMES = ("ant", "bee", "cat", "dog")


class Page(HTMLParser):
    """Texts, tags and what images show, in the order of the page."""

    def __init__(self, html: str):
        super().__init__()
        self.texts: list[str] = []
        self.tags: Counter[str] = Counter()
        self.shown: list[int] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag == "img":
            encoded = (dict(attrs)["src"] or "").removeprefix("data:image/png;base64,")
            picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
            self.shown.append(picture.getpixel((0, 0))[0])

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def numbered(count: int) -> np.ndarray:
    """Images that each show their own number, as their brightness."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 3))


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
PREDICTIONS = np.array([1, 0, 1, 2, 0, 1, 1, 2, 0, 3])


def test_pairs_come_with_the_most_confused_first_and_their_counts_both_ways():
    section = confused_pairs_section(LABELS, PREDICTIONS, NAMES, numbered(10))
    page = Page(section.html)
    assert page.text.startswith("class and class first predicted as second second predicted as first errors")
    cells = page.text.split("errors ")[1]
    assert cells == "ant bee 2 of 4 1 of 3 3 ant cat 1 of 4 1 of 2 2"
    # Of each class the first that was classified rightly.
    assert page.shown == [1, 5, 1, 7]
    assert section.text_before.startswith("5 of 10 images were misclassified")
    assert "100 %" in section.text_before


def test_no_more_pairs_than_asked_for():
    section = confused_pairs_section(LABELS, PREDICTIONS, NAMES, numbered(10), max_pairs=1)
    assert Page(section.html).tags["tr"] == 2
    assert "60 % of the errors" in section.text_before


def test_a_class_that_is_never_right_or_has_no_image_is_shown_as_far_as_it_goes():
    section = confused_pairs_section(np.array([0, 0]), np.array([3, 3]), NAMES, numbered(2))
    html = section.html
    assert 'src=""' in html
    page = Page(html.replace('<img src="" alt="">', ""))
    assert page.shown == [0]
    assert page.text.endswith("ant dog 2 of 2 0 of 0 2")


def test_without_errors_there_are_no_pairs():
    assert "No image was misclassified" in confused_pairs_section(LABELS, LABELS, NAMES, numbered(10)).html


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray, Clusters]:
    """Points on a line; clusters at 0 and 10 of the first class, at 100 of the second; the third has none."""
    embeddings = np.array([1.0, 9.5, 0.1, 12, 101, 99.5, 3, 50])[:, None]
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 2])
    centroids = np.array([[[0.0], [10]], [[100], [np.nan]], [[0], [0]]])
    return embeddings, labels, Clusters(centroids, np.array([[30, 20], [1, 0], [0, 0]]))


def test_each_cluster_is_shown_by_the_images_nearest_to_its_centroid(points):
    embeddings, labels, clusters = points
    page = Page(cluster_gallery_section(embeddings, labels, NAMES, numbered(8), clusters).html)
    assert page.text == "ant 2 clusters 30 images 20 images bee 1 cluster 1 image"
    assert page.shown == [2, 0, 6, 1, 3, 5, 4]
    fewer = cluster_gallery_section(embeddings, labels, NAMES, numbered(8), clusters, max_images=1)
    assert Page(fewer.html).shown == [2, 1, 5]


def test_representatives_exist_that_no_image_is_nearest_to(points):
    embeddings, labels, _ = points
    everywhere = np.array([[[0.0], [1000]], [[100], [200]], [[50], [51]]])
    used = Clusters(everywhere, np.array([[5, 0], [2, 0], [1, 0]]))
    section = cluster_gallery_section(
        embeddings, labels, NAMES, numbered(8), used, called="representative", max_classes=1
    )
    assert section.title == "Representatives"
    assert "images nearest to it." in section.text_before
    unused = "0 images None of the available images is nearest to it."
    assert Page(section.html).text == f"ant 2 representatives 5 images {unused}"


def test_representatives_in_use_are_counted_and_listed_with_the_least_used_first():
    counts = np.array([[3, 4, 1], [0, 9, 0], [2, 0, 5], [6, 1, 1]])
    section = representatives_in_use_section(counts, NAMES)
    assert section.text_before.startswith("9 of 12 representatives are the nearest")
    texts = Page(section.html).texts
    assert texts[:10] == ["in use", "classes", "3", "2", "2", "1", "1", "1", "0", "0"]
    rows = texts[texts.index("images of each") + 1 :]
    assert rows[:6] == ["bee", "1", "9, 0, 0", "cat", "2", "5, 2, 0"]
    fewer = representatives_in_use_section(counts, (EVIL,) * 4, max_classes=1)
    assert Page(fewer.html).tags["script"] == 0
    assert fewer.html.count("<td>9, 0, 0</td>") == 1
    assert "<td>5, 2, 0</td>" not in fewer.html


def test_with_losses_the_hardest_classes_come_first(points):
    embeddings, labels, clusters = points
    losses = np.array([[0.25, 1.5], [2.0, 99.0], [77.0, 0.0]])
    section = cluster_gallery_section(embeddings, labels, NAMES, numbered(8), clusters, losses=losses)
    page = Page(section.html)
    assert "highest loss" in section.text_before
    assert page.texts == [
        "bee", "1 cluster", "1 image", "mean loss 2",
        "ant", "2 clusters", "30 images", "mean loss 0.25", "20 images", "mean loss 1.5",
    ]  # fmt: skip
    hardest = cluster_gallery_section(
        embeddings, labels, NAMES, numbered(8), clusters, losses=losses, max_classes=1
    )
    assert Page(hardest.html).texts[:2] == ["bee", "1 cluster"]
    assert "ant" not in hardest.html


def test_a_cluster_none_of_whose_images_are_at_hand_says_so(points):
    embeddings, labels, clusters = points
    page = Page(cluster_gallery_section(embeddings[:1], labels[:1], NAMES, numbered(1), clusters).html)
    assert page.text.count("None of the available images") == 2


def test_galleries_that_cannot_be_drawn(points):
    embeddings, labels, clusters = points
    none = Clusters(clusters.centroids, np.zeros((3, 2), int))
    assert "no finite clusters" in cluster_gallery_section(embeddings, labels, NAMES, numbered(8), none).html
    diverged = cluster_gallery_section(embeddings * np.nan, labels, NAMES, numbered(8), clusters)
    assert "no finite clusters" in diverged.html


def test_names_from_users_are_text(points):
    embeddings, labels, clusters = points
    names = (EVIL, "Old_Church/1", EVIL, EVIL)
    html = confused_pairs_section(LABELS, PREDICTIONS, names, numbered(10)).html
    html += cluster_gallery_section(embeddings, labels, names, numbered(8), clusters).html
    page = Page(html)
    assert page.tags["script"] == 0
    assert EVIL in "".join(page.texts)
    assert len(re.findall("Old_<wbr>Church/<wbr>1", html)) == 2


def test_drawings_are_shown_as_ink(points):
    embeddings, labels, clusters = points
    ink = np.zeros((10, 8, 8, 1), np.uint8)
    assert 'class="scroll drawings"' in confused_pairs_section(LABELS, PREDICTIONS, NAMES, ink).html
    assert "gallery drawings" in cluster_gallery_section(embeddings, labels, NAMES, ink[:8], clusters).html


@pytest.mark.parametrize("section", ["pairs", "gallery"])
def test_one_label_and_image_of_each(points, section: str):
    embeddings, labels, clusters = points
    with pytest.raises(ValueError, match=r"8 labels.* and 9 images: give one of each"):
        if section == "pairs":
            confused_pairs_section(labels, labels, NAMES, numbered(9))
        else:
            cluster_gallery_section(embeddings, labels, NAMES, numbered(9), clusters)
