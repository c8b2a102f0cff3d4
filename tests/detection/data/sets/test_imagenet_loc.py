"""ImageNet's CLS-LOC folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.data.sets import imagenet_loc
from fsljax.errors import UserError

from .annotated_folder import Marked, pixels, xml_of

DOG, CAT = "n02084071", "n02121808"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two and one training images, and one image of each for validation."""
    places = {f"train/{DOG}/{DOG}_{n}": DOG for n in (1, 2)} | {f"train/{CAT}/{CAT}_7": CAT}
    places |= {"val/ILSVRC2012_val_00000001": CAT, "val/ILSVRC2012_val_00000002": DOG}
    for number, (place, name) in enumerate(places.items()):
        marked = Marked((20 + number, 30), [(name, (0, number, 10, 20), False)])
        image, xml = (tmp_path / "ILSVRC" / part / "CLS-LOC" / place for part in ("Data", "Annotations"))
        for path in (image, xml):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(marked)).save(f"{image}.JPEG", "JPEG")
        Path(f"{xml}.xml").write_text(xml_of(image.name, marked))
    (tmp_path / "LOC_synset_mapping.txt").write_text(f"{CAT} cat, true cat\n{DOG} dog\n")
    return tmp_path


def test_training_images_come_from_the_classes_in_turn(folder):
    read = imagenet_loc.read_folder(folder, "train")
    assert read.class_names == (DOG, CAT)
    assert read.ids == (f"{DOG}_1", f"{CAT}_7", f"{DOG}_2")
    assert [labels.tolist() for labels in read.labels] == [[0], [1], [0]]
    assert [boxes.tolist() for boxes in read.boxes] == [[[0, n, 10, 20]] for n in (0, 2, 1)]
    assert np.asarray(read.picture(1)).shape == (22, 30, 3)
    assert imagenet_loc.read_folder(folder / "ILSVRC", "train", limit=2).ids == read.ids[:2]


def test_classes_can_be_chosen(folder):
    assert imagenet_loc.read_folder(folder, "train", class_names=[CAT]).ids == (f"{CAT}_7",)
    assert imagenet_loc.read_folder(folder, "val", class_names=[DOG]).ids == ("ILSVRC2012_val_00000002",)
    assert len(imagenet_loc.read_folder(folder, "val")) == 2
    with pytest.raises(UserError, match="The class n00000000 has no annotations"):
        imagenet_loc.read_folder(folder, "train", class_names=[DOG, "n00000000"])


def test_what_is_missing_is_told(folder):
    with pytest.raises(UserError, match=r"no split 'test', only train, val\."):
        imagenet_loc.read_folder(folder, "test")
    (folder / f"ILSVRC/Data/CLS-LOC/train/{CAT}/{CAT}_7.JPEG").unlink()
    with pytest.raises(UserError, match=rf"{CAT}_7\.xml is of .*{CAT}_7\.JPEG, which is missing"):
        imagenet_loc.read_folder(folder, "train")
    (folder / "LOC_synset_mapping.txt").unlink()
    assert imagenet_loc.read_folder(folder, "val").class_names == (DOG, CAT)  # by the folders


def test_boxes_that_begin_at_zero_are_counted_from_it_in_all_files(folder):
    xml = folder / f"ILSVRC/Annotations/CLS-LOC/train/{DOG}/{DOG}_1.xml"
    xml.write_text(xml.read_text().replace("<xmin>1</xmin>", "<xmin>0</xmin>"))
    (xml.parent / f"._{DOG}_1.xml").write_bytes(b"\x00\x05")
    read = imagenet_loc.read_folder(folder, "train")
    assert [boxes.tolist() for boxes in read.boxes] == [[[1, x, 10, 20]] for x in (0, 3, 2)]
    assert len(read.notes) == 1 and "start at pixel 0" in read.notes[0]


def test_images_are_upright(folder):
    image = folder / f"ILSVRC/Data/CLS-LOC/train/{CAT}/{CAT}_7.JPEG"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(image).save(image, "JPEG", exif=exif)
    with pytest.raises(UserError, match=rf"{CAT}_7\.JPEG is rotated by its EXIF orientation"):
        imagenet_loc.read_folder(folder, "train")
