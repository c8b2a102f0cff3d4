"""Shows a detector one photograph or a few with boxes, and finds the same things in others.

    python examples/detect_photos.py my_photographs/ --classes=raccoon holiday/*.jpg

`my_photographs/` is annotated by LabelMe, VOC's XML or COCO's JSON. Where no photographs to search are given,
those that are annotated and not shown are searched.
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from fsljax.api import Detector
from fsljax.cli.drawing import draw_boxes
from fsljax.data.io.decode import open_picture, upright
from fsljax.detection.enrolled.annotated import read_annotated
from fsljax.errors import UserError

NOVEL = Path(os.environ.get("FSLJAX_DETECTION_DIR", "../shared/detection"), "photos/instances_novel.json")


def shipped_model() -> str:
    """The detector in `models/` of the current folder, else of the clone that this file is in."""
    places = [Path(), Path(__file__).resolve().parents[1]]
    models = [place / "models/repmet_detection_photos" for place in places]
    return next((str(model) for model in models if model.is_dir()), "")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("annotations", nargs="?", default=str(NOVEL), help="a file or a folder")
parser.add_argument("photographs", nargs="*", help="to be searched")
parser.add_argument("--classes", default="", help="names between commas; all by default")
parser.add_argument("--shots", type=int, default=3, help="boxes of each class that are shown")
parser.add_argument(
    "--model", default=shipped_model(), help="the detector; that of the repository by default"
)
parser.add_argument("--augment", type=int, default=2, help="views of each photograph that are shown, too")
parser.add_argument("--to", default="runs/detected_photographs.png", help="the picture")
options = parser.parse_intermixed_args()
if not options.model:
    parser.error("models/repmet_detection_photos is in the repository: run this in a clone, or give --model")
if not Path(options.annotations).exists():
    parser.error(f"there is nothing at {options.annotations}: give a file or folder of annotated photographs")

names = [name.strip() for name in options.classes.split(",") if name.strip()]
if not names and options.annotations == str(NOVEL):
    names = ["raccoon", "king"]
annotated = read_annotated(options.annotations, names or None)

# The first photographs are shown, until there are boxes enough of each class.
ends = np.cumsum([len(boxes) for boxes in annotated.boxes])
labels = np.split(np.array(annotated.labels), ends)[: len(ends)]
counts = dict.fromkeys(annotated.labels, 0)
shown = []
for row, of_image in enumerate(labels):
    if any(counts[label] < options.shots for label in of_image):
        shown.append(row)
        for label in of_image:
            counts[label] += 1
rest = [row for row in range(len(labels)) if row not in shown]
searched = options.photographs or [annotated.images[row] for row in rest[:: max(1, len(rest) // 6)][:6]]

detector = Detector.load(options.model)
detector.enroll(
    [annotated.images[row] for row in shown],
    [annotated.boxes[row] for row in shown],
    [label for row in shown for label in labels[row]],
    augment=options.augment,
)
try:
    detector.calibrate()
except UserError as error:
    print(f"{error} So the threshold stays {detector.threshold}.")
print(f"enrolled {counts} from {len(shown)} photographs; threshold {detector.threshold:.2f}")


def tile(image: Path | str | bytes, boxes: np.ndarray, texts: list[str], kinds: list[int]) -> Image.Image:
    """A photograph with boxes, small enough to stand beside others."""
    picture = upright(open_picture(io.BytesIO(image) if isinstance(image, bytes) else image), 3)
    scale = 360 / max(picture.size)
    picture = picture.resize([max(1, round(scale * side)) for side in picture.size])
    placed = [(text, tuple(scale * box)) for text, box in zip(texts, boxes, strict=True)]
    draw_boxes(picture, placed, kinds)
    return picture


kinds = {label: kind for kind, label in enumerate(detector.classes)}
tiles = [
    tile(annotated.images[row], annotated.boxes[row], list(labels[row]), [kinds[one] for one in labels[row]])
    for row in shown[:6]
]
for photograph, boxes, scores, found in zip(searched, *detector.detect(searched), strict=True):
    print(f"{photograph}: {len(boxes)} found")
    texts = [f"{label} {score:.2f}" for label, score in zip(found, scores, strict=True)]
    for text, box in zip(texts, boxes, strict=True):
        print(f"  {text} at {box.round().astype(int).tolist()}")
    tiles.append(tile(photograph, boxes, texts, [kinds[label] for label in found]))

columns = 4
sheet = Image.new("RGB", (columns * 370, -(-len(tiles) // columns) * 370), "white")
for place, picture in enumerate(tiles):
    sheet.paste(picture, (place % columns * 370 + 5, place // columns * 370 + 5))
Path(options.to).parent.mkdir(parents=True, exist_ok=True)
sheet.save(options.to)
print(f"drawn in {options.to}")
