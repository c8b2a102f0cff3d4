"""COCO and VOC folders at random: read rightly, or refused in one sentence that names file and place."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.data.sets import coco, voc
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

from . import coco_grammar, voc_grammar

pytestmark = [pytest.mark.campaign, pytest.mark.filterwarnings("error")]

PLACE = re.compile(
    r"(images|categories|annotations)\[\d+\]|Box \d+ of|its (images|categories|annotations) are|first [^ ]|"
    r"Images .* and .* of|\.xml|names|image "
)


def check(read: DetectionSet, wanted: Iterable[coco_grammar.Read]) -> None:
    wanted = list(wanted)
    assert list(read.ids) == [one.identity for one in wanted]
    for row, one in enumerate(wanted):
        assert tuple(read.sizes[row]) == one.size
        assert coco_grammar.same(read.boxes[row], [box for _, box, _, _ in one.objects])
        assert [read.class_names[label] for label in read.labels[row]] == [name for name, *_ in one.objects]
        assert read.difficult[row].tolist() == [difficult for _, _, difficult, _ in one.objects]
        crowd = read.crowd[row].tolist() if read.crowd is not None else [False] * len(one.objects)
        assert crowd == [many for *_, many in one.objects]


def check_refusal(error: UserError, file: str) -> None:
    said = str(error)
    assert "\n" not in said and len(said) < 700, said
    assert file in said and PLACE.search(said), said
    assert said[-1] in ".)", said
    said.encode()


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    for name, (height, width) in coco_grammar.SIZES.items():
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(root / "images" / name)
    return root


def test_coco(rounds, coco_folder: Path):
    for seed in rounds(60):
        rng = random.Random(seed)
        made = coco_grammar.content(rng)
        if rng.random() < 0.7:
            made = coco_grammar.changed(rng, made)
        drop = rng.random() < 0.5
        coco_grammar.write(rng, made, coco_folder / "instances_train.json")
        try:
            wanted = coco_grammar.expected(made, drop=drop)
        except coco_grammar.Refused:
            with pytest.raises(UserError) as caught:
                coco.read_folder(coco_folder, "train", images=coco_folder / "images", drop_bad_boxes=drop)
            check_refusal(caught.value, "instances_train.json")
            continue
        read = coco.read_folder(coco_folder, "train", images=coco_folder / "images", drop_bad_boxes=drop)
        check(read, wanted)
        for row, one in enumerate(wanted):
            if (
                one.size
                == coco_grammar.SIZES[str(Path(read.images[row]).relative_to(coco_folder / "images"))]
            ):
                assert read.picture(row).size == one.size[::-1]


def test_voc(rounds, tmp_path: Path):
    for seed in rounds(40):
        rng = random.Random(seed)
        root = tmp_path / "voc"
        folder = voc_grammar.make(rng)
        voc_grammar.write(folder, root)
        drop = rng.random() < 0.5
        wanted = voc_grammar.expected(folder, drop=drop)
        if wanted is None:
            with pytest.raises(UserError) as caught:
                voc.read_folder(root, "train", drop_bad_boxes=drop)
            check_refusal(caught.value, str(root))
        else:
            read = voc.read_folder(root, "train", drop_bad_boxes=drop)
            check(read, wanted)
            for row, one in enumerate(wanted):
                pixels = np.asarray(read.picture(row))
                assert pixels.shape[:2] == one.size and voc_grammar.is_upright(pixels)
            for note in voc_grammar.notes(folder):
                assert any(note in said for said in read.notes), (note, read.notes)
        shutil.rmtree(root)
