"""Folders in VOC's layout at random, with what is to be read of them."""

from __future__ import annotations

import io
import random
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from .coco_grammar import Read, Refused, fitting

NAMES = ("photo", "photo (1)", "IMG 0001", "a", "a 1", "\xe9t\xe9", "x.y", "7")
CLASSES = ("cat", "dog", "tram", "traffic light")
YES, NO = ("1", "true", "True", " yes "), ("0", "False", "no", "", None)
NO_NUMBERS = ("", "x", "nan", "inf", "1_0", "1e999", "1,5", "0x10")
UPRIGHT_AGAIN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@dataclass
class Object:
    """`box` is `[ymin, xmin, ymax, xmax]` as it is written; `fault` is what its XML lacks or holds."""

    name: str
    box: list[float]
    difficult: str | None
    fault: str = ""


@dataclass
class Marked:
    """An image and its XML; `size` is how the XML gives it; `fault` is one of the whole XML."""

    suffix: str
    seen: tuple[int, int]
    orientation: int
    size: str
    encoding: str
    filename: str
    objects: list[Object]
    mask: bool
    apart: bool
    fault: str = ""


@dataclass
class Folder:
    """`listed` are the names of the train list, in `form`; the others are in no list that is read."""

    images: dict[str, Marked]
    listed: list[str]
    form: str
    encoding: str
    newline: str
    decoys: bool
    missing: str = ""
    twice: bool = False
    faults: list[str] = field(default_factory=list)


def make(rng: random.Random) -> Folder:
    """A folder, as often as not with a fault."""
    zero, names = rng.random() < 0.2, rng.sample(NAMES, rng.randint(1, 4))
    images = {name: _marked(rng, zero) for name in names}
    for name in names:
        if rng.random() < 0.1 and len(names) > 1:
            images[name].filename = "another"
    listed = rng.sample(names, rng.randint(1, len(names)))
    folder = Folder(
        images, listed, rng.choice(["plain", "plain", "class"]), rng.choice(["utf-8", "utf-8-sig", "utf-16"]),
        rng.choice(["\n", "\r\n"]), rng.random() < 0.5,
    )  # fmt: skip
    kind = rng.random()
    chosen = images[rng.choice(names)]
    if kind < 0.15:
        chosen.fault = rng.choice(["broken", "root", "empty", "binary", "absent"])
    elif kind < 0.2:
        folder.missing = rng.choice(listed)
    elif kind < 0.25:
        folder.twice = True
    elif kind < 0.3:
        chosen.size = rng.choice(["stored", "text", "half"])
    elif kind < 0.6 and chosen.objects:
        one = rng.choice(chosen.objects)
        one.fault = rng.choice(["name", "box", "side", "two", "difficult", "number"])
    elif kind < 0.8 and chosen.objects:
        one, (height, width) = rng.choice(chosen.objects), chosen.seen
        one.box = rng.choice([
            [2, 2, height + 0.5, 9], [2, 2, 9, width + 3], [2, width + 4, 9, width + 9], [9, 9, 3, 3],
            [5, 5, 4, 9], [0.2, 0.3, 0.6, 0.7], [-3, 2, 9, 9], [0, 0, 9, 9], [0.6, 3, 9, 9],
        ])  # fmt: skip
    elif kind < 0.85:
        for marked in images.values():
            for one in marked.objects:
                one.box = [
                    rng.uniform(0.1, 0.4),
                    rng.uniform(0.1, 0.4),
                    rng.uniform(0.5, 1),
                    rng.uniform(0.5, 1),
                ]
    return folder


def _marked(rng: random.Random, zero: bool) -> Marked:
    height, width = rng.choice([(24, 40), (32, 32), (50, 30)])
    objects = []
    for _ in range(rng.randint(0, 3)):
        y, x = rng.randint(1, height - 6), rng.randint(1, width - 6)
        box = [y, x, rng.randint(y + 3, height), rng.randint(x + 3, width)]
        box = [value - 0.5 for value in box] if rng.random() < 0.1 and min(y, x) > 1 else box
        objects.append(Object(rng.choice(CLASSES), list(map(float, box)), rng.choice((*YES, *NO))))
    if zero and objects:
        objects[0].box[rng.randrange(2)] = 0
    return Marked(
        rng.choice([".jpg", ".jpg", ".JPG", ".jpeg", ".png"]), (height, width),
        rng.choice([1, 1, 1, *range(2, 9)]), rng.choice(["given", "given", "float", "none", "zero"]),
        rng.choice(["utf-8", "utf-8-sig", "utf-16"]), rng.choice(["own", "none", "stale"]), objects,
        rng.random() < 0.15, rng.random() < 0.2,
    )  # fmt: skip


def write(folder: Folder, root: Path) -> None:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for name, marked in folder.images.items():
        spelled = unicodedata.normalize("NFD" if marked.apart else "NFC", name)
        if name != folder.missing:
            (root / "JPEGImages" / f"{spelled}{marked.suffix}").write_bytes(
                stored(marked.seen, marked.orientation, "PNG" if marked.suffix == ".png" else "JPEG")
            )
            if marked.mask:
                (root / "JPEGImages" / f"{spelled}{mask_suffix(marked)}").write_bytes(
                    stored(marked.seen, 0, "BMP")
                )
        content = xml(folder, name).encode(marked.encoding)
        content = {"broken": content[: len(content) // 2], "empty": b"", "binary": bytes(range(256))}.get(
            marked.fault, content
        )
        if marked.fault != "absent":
            (root / "Annotations" / f"{spelled}.xml").write_bytes(content)
        if folder.decoys:
            (root / "JPEGImages" / f"{spelled}.txt").write_text("0 0.5 0.5 0.1 0.1")
            for path in (f"JPEGImages/._{spelled}.jpg", f"Annotations/._{spelled}.xml"):
                (root / path).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    if folder.decoys:
        (root / "JPEGImages/Thumbs.db").write_bytes(b"\xd0\xcf")
        (root / "JPEGImages/@eaDir").mkdir()
    listed = folder.listed + folder.listed[:1] * folder.twice
    lines = [
        f"{name}  {(1, -1, 0)[place % 3]}" if folder.form == "class" else name
        for place, name in enumerate(listed)
    ]
    text = folder.newline.join([*lines, ""])
    (root / "ImageSets/Main/train.txt").write_bytes(text.encode(folder.encoding))


def mask_suffix(marked: Marked) -> str:
    return ".bmp" if marked.suffix == ".png" else ".png"


def xml(folder: Folder, name: str) -> str:
    marked = folder.images[name]
    height, width = marked.seen
    if marked.size == "stored" and marked.orientation >= 5:
        height, width = width, height
    size = {
        "none": "", "zero": "<size><width>0</width><height>0</height></size>",
        "float": f"<size><width>{width}.0</width><height>{height}.0</height></size>",
        "text": f"<size><width>wide</width><height>{height}</height></size>",
        "half": f"<size><width>{width}.5</width><height>{height}</height></size>",
    }.get(marked.size, f"<size><width>{width}</width><height>{height}</height></size>")  # fmt: skip
    other = next((one for one in folder.images if one != name), name)
    filename = {
        "own": f"{unicodedata.normalize('NFD' if marked.apart else 'NFC', name)}{marked.suffix}",
        "none": "", "stale": "DSC_0001.jpg",
        "another": f"{unicodedata.normalize('NFD' if folder.images[other].apart else 'NFC', other)}"
        f"{folder.images[other].suffix}",
    }[marked.filename]  # fmt: skip
    root = "svg" if marked.fault == "root" else "annotation"
    objects = "".join(map(_object, marked.objects))
    return f"<{root}><filename>{filename}</filename>{size}{objects}</{root}>"


def _object(one: Object) -> str:
    sides = dict(zip(("ymin", "xmin", "ymax", "xmax"), map(str, one.box), strict=True))
    if one.fault == "side":
        del sides["ymax"]
    if one.fault == "number":
        sides["xmin"] = NO_NUMBERS[len(one.name) % len(NO_NUMBERS)]
    box = "<bndbox>" + "".join(f"<{side}>{text}</{side}>" for side, text in sides.items()) + "</bndbox>"
    box = {"box": "", "two": box + box}.get(one.fault, box)
    difficult = "maybe" if one.fault == "difficult" else one.difficult
    name = "" if one.fault == "name" else one.name
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name> {name}</name>{flag}<part><name>head</name></part>{box}</object>"


def _readable(marked: Marked) -> bool:
    return (
        not marked.fault and marked.size not in ("text", "half") and not any(o.fault for o in marked.objects)
    )


def from_zero(folder: Folder) -> bool:
    readable = [marked for marked in folder.images.values() if _readable(marked)]
    return any(-0.5 < side < 0.5 for marked in readable for one in marked.objects for side in one.box[:2])


def expected(folder: Folder, *, drop: bool) -> list[Read] | None:
    """What must be read of the list; None: it must be refused."""
    chosen = [folder.images[name] for name in folder.listed]
    turned = [m for m in chosen if m.size == "stored" and m.orientation >= 5 and m.seen[0] != m.seen[1]]
    if folder.missing or folder.twice or turned or not all(map(_readable, chosen)):
        return None
    first, read = (0 if from_zero(folder) else 1), []
    objects = [one for marked in chosen for one in marked.objects]
    if objects and not any(max(o.box[2], o.box[3], o.box[0] - first, o.box[1] - first) > 1 for o in objects):
        return None
    try:
        for name, marked in zip(folder.listed, chosen, strict=True):
            kept = []
            for one in marked.objects:
                y0, x0, y1, x1 = one.box
                box = fitting([y0 - first, x0 - first, y1, x1], *marked.seen, drop)
                found = (one.name, box, (one.difficult or "").strip().lower() in ("1", "true", "yes"), False)
                if box is not None and found not in kept:
                    kept.append(found)
            read.append(Read(name, marked.seen, kept))
    except Refused:
        return None
    return read


def notes(folder: Folder) -> list[str]:
    """Parts of the notes that there must be."""
    chosen = {name: folder.images[name] for name in folder.listed}
    said = []
    if from_zero(folder):
        said.append("pixel 0")
    if any(marked.mask and marked.filename != "own" for marked in chosen.values()):
        said.append("several files")
    others = [marked for name, marked in folder.images.items() if name not in chosen]
    if any(not _readable(marked) and marked.fault != "absent" for marked in others):
        said.append("Unreadable annotations, skipped")
    if any(marked.filename == "another" for marked in chosen.values()):
        said.append("name another image")
    hidden = [
        m
        for m in chosen.values()
        if m.orientation in (2, 3, 4) or (m.orientation > 4 and m.seen[0] == m.seen[1])
    ]
    return [*said, *["EXIF"] * bool(hidden)]


@cache
def stored(seen: tuple[int, int], orientation: int, kind: str) -> bytes:
    """A file that is seen white in the upper left quarter; by orientation 0 a mask, which is grey."""
    pixels = np.zeros((*seen, 3), np.uint8)
    pixels[: seen[0] // 2, : seen[1] // 2] = 255
    image = Image.fromarray(np.full_like(pixels, 128) if not orientation else pixels)
    file, exif = io.BytesIO(), Image.Exif()
    if orientation in UPRIGHT_AGAIN:
        image, exif[0x0112] = image.transpose(UPRIGHT_AGAIN[orientation]), orientation
    image.save(file, kind, **({"exif": exif} if orientation > 1 else {}))
    return file.getvalue()


def is_upright(pixels: np.ndarray) -> bool:
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    return pixels[2 : height - 2, 2 : width - 2].min() > 200 and max(
        pixels[height + 2 :].max(), pixels[:, width + 2 :].max()
    ) < 60  # fmt: skip
