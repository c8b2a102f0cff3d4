"""Names photographs by a frozen network: each head in episodes, and baselines on all classes.

    python benchmarks/heads.py --folder DIR              # a folder of class folders, such as Caltech-101
    python benchmarks/heads.py --flowers                 # Oxford Flowers-102 of TFDS: its test part
    python benchmarks/heads.py --flowers --unknown       # and how well the unknown is told

Printed are accuracies in per cent with their 95 % interval over episodes. With --flowers also nearest class
mean and logistic regression, ours and scikit-learn's, trained on the training and validation parts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fsljax.api import Classifier
from fsljax.classification.heads import HEADS, new_head
from fsljax.classification.heads.episodes import RULES
from fsljax.classification.heads.unknown import auroc, left_out_distances, share_of_further
from fsljax.data.samplers.episodes import Episodes
from fsljax.evaluation import linear_probe
from fsljax.evaluation.episodic import episode_accuracies, mean_and_ci95
from fsljax.evaluation.paired import accuracy_and_ci95

QUERIES = 15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--flowers", action="store_true")
    parser.add_argument("--unknown", action="store_true")
    parser.add_argument("--weights", default="efficientnet_lite0")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="file that keeps the features between runs")
    options = parser.parse_args()
    parts = features(options)
    embeddings, labels = parts["test"]
    print(f"{options.weights}: {len(labels):,} photographs of {len(np.unique(labels))} classes")
    if "train" in parts:
        on_all_classes(*parts["train"], embeddings, labels)
    print("setting        " + "".join(f"{name:>17}" for name in HEADS))
    counts = np.bincount(labels)
    for shot in (1, 5):
        classes = np.flatnonzero(counts >= shot + QUERIES)
        for way in (5, len(classes)):
            drawn = draw(labels, classes, way, shot, options.episodes)
            cells = [cell(embeddings, drawn, shot, name) for name in HEADS]
            print(f"{way:3d}-way {shot}-shot  " + "".join(f"{one:>17}" for one in cells), flush=True)
    if options.unknown:
        unknown(embeddings, labels)


def features(options: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Embeddings and labels of each part; those of classes with no training photograph are left out."""
    if options.cache is not None and options.cache.exists():
        with np.load(options.cache) as kept:
            names = sorted({name.split("_")[0] for name in kept})
            return {name: (kept[f"{name}_x"], kept[f"{name}_y"]) for name in names}
    network = Classifier.pretrained(options.weights)
    parts = {}
    for name, (images, labels) in (flowers() if options.flowers else folder(options.folder)).items():
        blocks = [network.embed(images[start : start + 64]) for start in range(0, len(images), 64)]
        parts[name] = np.concatenate(blocks), np.asarray(labels)
    if options.cache is not None:
        np.savez(
            options.cache,
            **{
                f"{name}_{axis}": array
                for name, pair in parts.items()
                for axis, array in zip("xy", pair, strict=True)
            },
        )
    return parts


def folder(root: Path) -> dict[str, tuple[list, list]]:
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    found = [(file, label) for label, path in enumerate(classes) for file in sorted(path.iterdir())]
    return {"test": ([file for file, _ in found], [label for _, label in found])}


def flowers() -> dict[str, tuple[list, list]]:
    import tensorflow_datasets as tfds

    parts: dict[str, tuple[list, list]] = {}
    for part, splits in {"train": ("train", "validation"), "test": ("test",)}.items():
        examples = [one for split in splits for one in tfds.data_source("oxford_flowers102", split=split)]
        parts[part] = [one["image"] for one in examples], [int(one["label"]) for one in examples]
    known = set(parts["train"][1])
    kept = [row for row, label in enumerate(parts["test"][1]) if label in known]
    parts["test"] = [parts["test"][0][row] for row in kept], [parts["test"][1][row] for row in kept]
    return parts


def on_all_classes(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, labels: np.ndarray) -> None:
    count = int(max(train_labels.max(), labels.max())) + 1
    means = linear_probe.nearest_class_mean(train, train_labels, test, num_classes=count)
    regression = linear_probe.fit_logistic_regression(train, train_labels, num_classes=count)
    rules = {"nearest class mean": means, "logistic regression": regression.predict(test)}
    try:
        from sklearn.linear_model import LogisticRegression

        unit, unit_test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
        fitted = LogisticRegression(C=3, max_iter=300).fit(10 * unit, train_labels)
        rules["logistic regression, scikit-learn"] = fitted.predict(10 * unit_test)
    except ImportError:
        print("scikit-learn is not installed: its regression is left out")
    for name in HEADS:
        head = new_head(name)
        head.add(train_labels.tolist(), train)
        rules[f"head {name}"] = np.array(head.labels)[head.compare(test).predictions]
    for name, predicted in rules.items():
        accuracy, ci95 = accuracy_and_ci95(predicted == labels)
        print(f"{name:36s} {100 * accuracy:.1f} ± {100 * ci95:.1f}", flush=True)


def draw(labels: np.ndarray, classes: np.ndarray, way: int, shot: int, count: int) -> Episodes:
    random = np.random.default_rng((way, shot))
    rows = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    chosen = np.stack([random.permutation(classes)[:way] for _ in range(count)])
    images = [[random.permutation(rows[label])[: shot + QUERIES] for label in episode] for episode in chosen]
    return Episodes(chosen.astype(np.int32), np.asarray(images, np.int32))


def cell(embeddings: np.ndarray, drawn: Episodes, shot: int, name: str) -> str:
    rule = RULES["centered" if name == "representatives" and shot == 1 else name]
    accuracies = episode_accuracies(embeddings, drawn, shot=shot, distance="cosine", classify=rule)
    mean, ci95 = mean_and_ci95(accuracies)
    return f"{100 * mean:.2f} ± {100 * ci95:.2f}"


def unknown(
    embeddings: np.ndarray, labels: np.ndarray, classes: int = 20, shot: int = 5, draws: int = 100
) -> None:
    """`classes` enrolled of `shot` photographs, as many others shown, with the threshold of `calibrate`."""
    enough = np.flatnonzero(np.bincount(labels) >= shot + QUERIES)
    print(f"{classes} classes of {shot}, {classes} others shown, {draws} draws; 5 % of these may be accepted")
    for name in HEADS:
        random, figures = np.random.default_rng(0), []
        for _ in range(draws):
            chosen = random.permutation(enough)[: 2 * classes]
            rows = [random.permutation(np.flatnonzero(labels == label))[: shot + QUERIES] for label in chosen]
            head = new_head(name)
            for place in range(classes):
                head.add([place] * shot, embeddings[rows[place][:shot]])
            telling = head.telling_unknown()
            distances = left_out_distances(head)
            share = share_of_further(distances.unknown, distances.classes, 0.05)
            threshold = np.quantile(distances.unknown, share.level)
            known = telling.compare(embeddings[np.concatenate([of[shot:] for of in rows[:classes]])]).nearest
            strange = telling.compare(
                embeddings[np.concatenate([of[shot:] for of in rows[classes:]])]
            ).nearest
            figures.append(
                (auroc(-known, -strange), np.mean(strange <= threshold), np.mean(known <= threshold))
            )
        area, false, true = np.mean(figures, axis=0)
        spread = 100 * np.std([one[1] for one in figures])
        print(
            f"{name:17s} AUROC {area:.3f}   false accepts {100 * false:.1f} % (sd {spread:.1f})"
            f"   true accepts {100 * true:.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
