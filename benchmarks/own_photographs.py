"""How long a detector takes with photographs: it is loaded, shown three boxes, and searches ten others.

    python benchmarks/own_photographs.py --annotations=photos/instances_novel.json --label=raccoon

The annotations are COCO's, VOC's or LabelMe's. Programs are compiled in a first round, which is timed by
itself; the rounds after it are warm.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax

from fsljax.api import Detector
from fsljax.detection.enrolled.annotated import read_annotated

ENROLLED, SEARCHED = 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--model", default="models/repmet_detection_photos")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    annotated = read_annotated(options.annotations, [options.label])
    shown, searched = annotated.images[:ENROLLED], annotated.images[ENROLLED : ENROLLED + SEARCHED]
    boxes = [of_image[0] for of_image in annotated.boxes[:ENROLLED]]
    seconds: dict[str, list[float]] = {"load": [], "enrol": [], "detect": []}
    for _ in range(1 + options.rounds):
        times = [time.perf_counter()]
        detector = Detector.load(options.model)
        times.append(time.perf_counter())
        detector.enroll(shown, boxes, options.label)
        times.append(time.perf_counter())
        found = detector.detect(searched)
        times.append(time.perf_counter())
        for name, start, end in zip(seconds, times, times[1:], strict=False):
            seconds[name].append(end - start)
    print(f"jax {jax.__version__}, {jax.default_backend()}; {sum(map(len, found.boxes))} found")
    for name, of_name in seconds.items():
        first, warm = of_name[0], sorted(of_name[1:])
        middle, spread = statistics.median(warm), f"{warm[0]:.2f} – {warm[-1]:.2f}"
        print(f"{name:7} first {first:6.2f} s, then {middle:.2f} s ({spread})")
    print(f"{SEARCHED / statistics.median(seconds['detect'][1:]):.1f} photographs a second")


if __name__ == "__main__":
    main()
