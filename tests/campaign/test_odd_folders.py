"""Folders as people have them: with what systems leave in them, links, copies, odd names and odd formats.

Every image is of one colour that no other has, so that whatever is read can be traced to its file.
"""

from __future__ import annotations

import os
import random
import shutil
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.data.folders.layouts import as_text
from fsljax.data.io.formats import read_extensions
from fsljax.data.sources.folder import load_splits

pytestmark = pytest.mark.campaign

SAMPLE = 20
PARTS = ("train", "validation", "test")
SPELLINGS = {
    "train": ["train", "Training", "TRAIN", "train_set", "meta-train", "trainval", "train images"],
    "validation": ["val", "valid", "Validation", "dev", "val-set", "metaval"],
    "test": ["test", "Testing", "tests", "test_set", "TEST", "meta_test"],
}
LETTERS = ["a", "Z", "7", "é", "ü", "猫", "ń", " x", "-", "'", "\n", "😀", "n" * 60, os.fsdecode(b"\xe9")]
RUBBISH_FOLDERS = ["@eaDir", ".thumbnails", "__MACOSX", "#recycle", "@Recycle", "lost+found", "$RECYCLE.BIN",
                   ".git", "@eadir", "System Volume Information", ".Trash-1000"]  # fmt: skip
RUBBISH_FILES = [".DS_Store", "Thumbs.db", "desktop.ini", "._photo.png", ".hidden.jpg", "ehthumbs.db"]
UNREAD = {".HEIC": "HEIC", ".jp2": "JPEG 2000", ".psd": "Photoshop", ".svg": "SVG", ".CR2": "camera RAW"}


@dataclass
class Tree:
    """A folder of images, and what is in it."""

    root: Path
    random: random.Random
    folder_of: dict[str, Path] = field(default_factory=dict)
    part_of: dict[str, str] = field(default_factory=dict)
    colours: dict[str, list[int]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    unread: Counter[tuple[Path, str]] = field(default_factory=Counter)
    linked: int = 0
    copied: Counter[str] = field(default_factory=Counter)
    twin_of: dict[str, str] = field(default_factory=dict)
    painted: int = 0

    def rank(self, name: str) -> tuple[int, str]:
        """Where a class stands among all."""
        folders = [name] if name not in self.twin_of else [name, self.twin_of[name]]
        return PARTS.index(self.part_of[name]), min(folders)

    def paint(self, path: Path) -> int:
        """Writes an image of a colour of its own."""
        self.painted += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (self.painted * 37 % 256, self.painted // 256, self.painted * 91 % 256)
        form = self.random.choice(["PNG", "BMP", "PNG"])
        Image.new("RGB", (self.random.randint(1, 5), self.random.randint(1, 5)), colour).save(path, form)
        return (colour[0] << 16) + (colour[1] << 8) + colour[2]

    def image(self, name: str, folder: Path) -> None:
        """An image of a class, at some depth below a folder."""
        for _ in range(self.random.choice([0, 0, 1, 2])):
            folder = folder / f"inner {self.random.randint(0, 2)}"
        extension = self.random.choice([".png", ".PNG", ".bmp", ".jpg", ".Jpeg", ".tif"])
        path = folder / f"{self.random.choice(['image', 'größe', 'IMG 0'])}{self.painted}{extension}"
        self.colours[name].append(self.paint(path))
        self.files[name].append(path)


def grown(root: Path, seed: int) -> Tree:
    chosen = random.Random(seed)
    tree = Tree(root, chosen)
    divided = chosen.random() < 0.5
    places = {part: root / chosen.choice(SPELLINGS[part]) for part in PARTS} if divided else {"train": root}
    for part, place in places.items():
        for number in range(chosen.randint(2, 4) if divided else chosen.randint(6, 9)):
            letters = "".join(chosen.choices(LETTERS, k=chosen.randint(1, 3)))
            form = chosen.choice(["NFC", "NFD"])
            name = unicodedata.normalize(form, f"c{len(tree.folder_of)}{letters}{number}")
            tree.folder_of[name], tree.part_of[name] = place / name, part
            tree.colours[name], tree.files[name] = [], []
            for _ in range(chosen.randint(1, 4)):
                tree.image(name, place / name)
            other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", name)
            if other != name and chosen.random() < 0.5:
                tree.image(name, place / other)
                tree.twin_of[name] = other
    for name in chosen.sample(sorted(tree.folder_of), k=len(tree.folder_of) // 2):
        chosen.choice([link, link, copy, copy, leave_rubbish, leave_unread])(tree, name)
    for _ in range(3):
        leave_rubbish(tree, chosen.choice(sorted(tree.folder_of)))
        leave_unread(tree, chosen.choice(sorted(tree.folder_of)))
    return tree


def link(tree: Tree, name: str) -> None:
    """An image of a class a second time, there or in another, by a link of either kind; it counts once."""
    number = tree.random.randrange(len(tree.files[name]))
    at, colour = tree.files[name][number], tree.colours[name][number]
    if sum(colour in of for of in tree.colours.values()) > 1 or len(tree.files[name]) < 2:
        return
    other = tree.random.choice([name, *tree.folder_of])
    new = tree.folder_of[other] / f"linked {at.name}"
    if new.exists():
        return
    tree.linked += 1
    if tree.random.random() < 0.5:
        new.symlink_to(at)
        return
    os.link(at, new)
    if tree.rank(other) < tree.rank(name):  # of two real places the first counts
        del tree.files[name][number], tree.colours[name][number]
        tree.files[other].append(new)
        tree.colours[other].append(colour)


def copy(tree: Tree, name: str) -> None:
    """An image of a class under another, or twice under its own."""
    other = tree.random.choice(sorted(tree.folder_of))
    number = tree.random.randrange(len(tree.files[name]))
    source = tree.files[name][number]
    if source.name.startswith("copied") or tree.random.random() < 0.3:
        return
    target = tree.folder_of[other] / f"copied {source.name}"
    if target.exists() or any(
        tree.colours[name][number] in tree.colours[one] for one in tree.colours if one != name
    ):
        return
    if tree.colours[name].count(tree.colours[name][number]) > 1:
        return
    shutil.copyfile(source, target)
    tree.colours[other].append(tree.colours[name][number])
    tree.files[other].append(target)
    same_part = tree.part_of[name] == tree.part_of[other]
    tree.copied["class" if name == other else "classes" if same_part else "parts"] += 1


def leave_rubbish(tree: Tree, name: str) -> None:
    folder = tree.random.choice([tree.root, tree.folder_of[name].parent, tree.folder_of[name]])
    if tree.random.random() < 0.7:
        tree.paint(folder / tree.random.choice(RUBBISH_FOLDERS) / "photo.jpg" / "SYNOPHOTO_THUMB_M.jpg")
        tree.paint(folder / tree.random.choice(RUBBISH_FOLDERS) / "1.png")
    else:
        tree.paint(folder / tree.random.choice(RUBBISH_FILES))


def leave_unread(tree: Tree, name: str) -> None:
    extension = tree.random.choice([one for one in UNREAD if one.casefold() not in read_extensions()])
    path = tree.folder_of[name] / f"unread {tree.painted}{extension}"
    if not path.exists():
        path.write_bytes(b"\0")
        tree.unread[tree.folder_of[name].parent, UNREAD[extension]] += 1


def test_what_is_read_is_what_was_put_there(tmp_path: Path, rounds):
    for seed in rounds(SAMPLE):
        root = tmp_path / str(seed)
        tree = grown(root, seed)
        splits = load_splits(root, image_size=2)
        wanted = {as_text(unicodedata.normalize("NFC", name)): name for name in tree.folder_of}
        read: dict[str, list[int]] = {}
        for part in PARTS:
            data = getattr(splits, part)
            assert len(data.class_names) >= 2
            for number, shown in enumerate(data.class_names):
                name = wanted[unicodedata.normalize("NFC", shown)]
                if len({*tree.part_of.values()}) > 1:
                    assert tree.part_of[name] == part
                pixels = np.asarray(data.images)[data.labels == number].reshape(-1, 4, 3).astype(int)
                assert (pixels == pixels[:, :1]).all()
                read[name] = [(r << 16) + (g << 8) + b for r, g, b in pixels[:, 0].tolist()]
        assert {name: sorted(of) for name, of in read.items()} == {
            name: sorted(of) for name, of in tree.colours.items()
        }
        check_notes(tree, splits.notes)
        shutil.rmtree(root)


def check_notes(tree: Tree, notes: tuple[str, ...]) -> None:
    for (folder, name), count in tree.unread.items():
        (note,) = [note for note in notes if f"{as_text(str(folder))} in unsupported formats" in note]
        assert f"{count} {name} (" in note
    linked = [note for note in notes if "because of links" in note]
    assert len(linked) == bool(tree.linked) and all(f"once ({tree.linked}):" in note for note in linked)
    twins = [note for note in notes if "two Unicode forms" in note]
    assert len(twins) == bool(tree.twin_of) and all(f"({len(tree.twin_of)}):" in note for note in twins)
    for where, told in (
        ("parts", "in two splits"),
        ("classes", "in two classes"),
        ("class", "twice in one"),
    ):
        told_of = [note for note in notes if "byte-for-byte" in note and told in note]
        if len({*tree.part_of.values()}) > 1:
            assert len(told_of) == bool(tree.copied[where])
            assert all(f"({tree.copied[where]}):" in note for note in told_of)
        elif tree.copied["class"] and where == "class":
            assert told_of
    assert "eaDir" not in "".join(notes) and "SYNOPHOTO" not in "".join(notes)
