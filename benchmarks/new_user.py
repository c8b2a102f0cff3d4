"""What a new user gets from a folder of photographs: one command, then photographs that came later.

    TFDS_DATA_DIR=DIR python benchmarks/new_user.py

Makes a folder of 30 classes of Flowers-102, 6 to 18 photographs each from its train and validation parts,
gives launch.py its path and nothing else, names later photographs (of the test part) with the classifier in
the workdir, enrols 3 more classes of 5 photographs and names those of all 33. Beside it stands scikit-learn's
logistic regression (C = 3) on the same features, of length 10. The seconds are of launch.py alone, features
and compilation included; let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from fsljax.api import Classifier

ROOT = Path(__file__).parents[1]
CLASSES, NEW_CLASSES, NEW_PHOTOGRAPHS = 30, 3, 5
FEWEST, MOST, LATER_A_CLASS = 6, 18, 20

Files = dict[str, list[Path]]


def photographs(splits: str) -> dict[int, list[bytes]]:
    """The encoded photographs of each class of Flowers-102."""
    import tensorflow_datasets as tfds

    source = tfds.data_source(
        "oxford_flowers102",
        split=splits,
        data_dir=os.environ.get("TFDS_DATA_DIR"),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    of_class: defaultdict[int, list[bytes]] = defaultdict(list)
    for split in source if isinstance(source, list) else [source]:
        for record in split:
            of_class[int(record["label"])].append(bytes(record["image"]))
    return dict(of_class)


def write(folder: Path, name: str, images: list[bytes]) -> list[Path]:
    (folder / name).mkdir(parents=True)
    paths = [folder / name / f"{number:03d}.jpg" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image)
    return paths


def make_folders(folder: Path, seed: int) -> tuple[Files, Files, Files]:
    """Photographs of the user's folder, of the classes that come later, and the later ones of all."""
    random = np.random.default_rng(seed)
    train, validation, test = (photographs(split) for split in ("train", "validation", "test"))
    known = {label: train[label] + validation.get(label, []) for label in train if label in test}
    enough = [label for label, images in sorted(known.items()) if len(images) >= FEWEST]
    chosen = random.permutation(enough)[: CLASSES + NEW_CLASSES].tolist()
    first, new, later = {}, {}, {}
    for place, label in enumerate(chosen):
        name = f"flower_{label:03d}"
        images = [known[label][row] for row in random.permutation(len(known[label]))]
        if place < CLASSES:
            count = int(random.integers(FEWEST, MOST + 1))
            first[name] = write(folder / "photographs", name, images[:count])  # some have no more than 13
        else:
            new[name] = write(folder / "new", name, images[:NEW_PHOTOGRAPHS])
        later[name] = write(folder / "later", name, test[label][:LATER_A_CLASS])
    return first, new, later


def flat(files: Files) -> tuple[list[Path], np.ndarray]:
    paths = [path for of_class in files.values() for path in of_class]
    return paths, np.array([name for name, of_class in files.items() for _ in of_class])


def theirs(classifier: Classifier, known: Files, later: Files) -> float:
    """Accuracy of scikit-learn's logistic regression on our features of length 10."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    (paths, labels), (later_paths, later_labels) = flat(known), flat(later)
    regression = LogisticRegression(C=3, max_iter=2_000)
    regression.fit(10 * normalize(classifier.embed(paths)), labels)
    named = regression.predict(10 * normalize(classifier.embed(later_paths)))
    return float(np.mean(named == later_labels))


def ours(classifier: Classifier, later: Files) -> float:
    paths, labels = flat(later)
    return float(np.mean(np.array(classifier.predict(paths)) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of classes and photographs")
    parser.add_argument("--warm", action="store_true", help="use the cache instead of an empty one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        first, new, later = make_folders(folder, given.seed)
        command = [
            sys.executable,
            str(ROOT / "launch.py"),
            f"--config={ROOT / 'configs' / 'folder.py'}",
            f"--config.data.path={folder / 'photographs'}",
        ]
        cache = {} if given.warm else {"XDG_CACHE_HOME": str(folder / "cache")}
        began = time.monotonic()
        subprocess.run(command, cwd=folder, env=os.environ | cache, check=True)
        seconds = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        classifier = Classifier.load(folder / "runs" / "folder")
        of_first = {name: later[name] for name in first}
        count = sum(map(len, first.values()))
        print(
            f"\n{len(first)} classes, {count} photographs: {seconds:.0f} s from the command to the report, "
            f"{used.ru_utime + used.ru_stime:.0f} s of a core"
        )
        print(f"{'':34}{'fsljax':>8}{'scikit-learn':>14}")
        row = "{:34}{:8.1f}{:14.1f}"
        asked = f"{sum(map(len, of_first.values()))} later photographs, %"
        print(row.format(asked, 100 * ours(classifier, of_first), 100 * theirs(classifier, first, of_first)))
        paths, labels = flat(new)
        classifier.enroll(paths, labels.tolist())
        asked = f"{sum(map(len, later.values()))} of {len(later)} classes, %"
        print(row.format(asked, 100 * ours(classifier, later), 100 * theirs(classifier, first | new, later)))


if __name__ == "__main__":
    main()
