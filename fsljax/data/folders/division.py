"""The classes and images of a folder divided into train, validation and test where it does not say itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fsljax.data.class_split import split_classes
from fsljax.data.folders.repeats import PARTS, Classes
from fsljax.errors import UserError, first_few

_LEAST_CLASSES = 2


def drop_small(
    root: Path, parts: Mapping[str, Classes], least: int, shared_classes: bool, notes: list[str]
) -> dict[str, Classes]:
    """Leaves out the classes with fewer than `least` images; shared ones count over all parts."""

    def is_small(part: str, name: str) -> bool:
        if not shared_classes:
            return len(parts[part][name]) < least
        untrained = parts["train"].get(name) == []
        return untrained or sum(len(classes.get(name, ())) for classes in parts.values()) < least

    small = sorted({name for part in parts for name in parts[part] if is_small(part, name)})
    if small:
        lacking = "no images" if least == 1 else f"fewer than {least} images"
        notes.append(
            f"Classes of {root} with {lacking}, which were skipped ({len(small):,}): {first_few(small)}."
        )
    return {
        part: {name: files for name, files in parts[part].items() if not is_small(part, name)}
        for part in parts
    }


def complete(
    root: Path,
    parts: dict[str, Classes],
    fractions: Sequence[float],
    seed: int,
    shared_classes: bool,
    notes: list[str],
) -> dict[str, Classes]:
    """Takes the parts that the folder does not name from train."""
    asked = {part for part, share in zip(PARTS, fractions, strict=True) if share}
    parts = {part: parts.get(part, {}) for part in PARTS if part in parts or part not in asked}
    missing = [part for part in PARTS if part not in parts]
    if not missing:
        return parts
    train = parts["train"]
    needed = _LEAST_CLASSES * (1 if shared_classes else 1 + len(missing))
    if len(train) < needed:
        purpose = "" if shared_classes else f" to split them into train, {' and '.join(missing)}"
        raise UserError(
            f"{_classes_to_train_on(root, train)}, but at least {needed} are needed{purpose}: "
            "add classes, or, if the class folders are nested deeper, give the folder that "
            "holds them."
        )
    shares = [
        share if part in ("train", *missing) else 0 for part, share in zip(PARTS, fractions, strict=True)
    ]
    shares = [share / sum(shares) for share in shares]
    taken: dict[str, Classes] = {part: {} for part in PARTS}
    if shared_classes:
        too_few = [name for name, files in train.items() if len(files) <= len(missing)]
        for name, files in train.items():
            divided = (files, (), ()) if name in too_few else split_classes(files, shares, seed)
            for part, chosen in zip(PARTS, divided, strict=True):
                taken[part][name] = list(chosen)
        if too_few:
            notes.append(
                "Classes with too few images to split, which are used for train only "
                f"({len(too_few):,}): {first_few(too_few)}."
            )
    else:
        for part, chosen in zip(
            PARTS, split_classes(train, shares, seed, at_least=_LEAST_CLASSES), strict=True
        ):
            taken[part] = {name: train[name] for name in chosen}
    what = "images" if shared_classes else "classes"
    notes.append(
        f"{root} does not define its {' and '.join(missing)} {what}: they were chosen with seed {seed}."
    )
    return {part: taken[part] if part in ("train", *missing) else parts[part] for part in PARTS}


def check_classes(
    root: Path, parts: Mapping[str, Classes], shared_classes: bool, may_lack: Collection[str] = ()
) -> None:
    """Raises a UserError for parts that cannot be of use; those that may lack images are named."""
    train = parts["train"]
    if len(train) < _LEAST_CLASSES:
        raise UserError(
            f"{_classes_to_train_on(root, train)}, but at least {_LEAST_CLASSES} are needed: add classes."
        )
    for part in PARTS:
        if part not in may_lack and not any(parts[part].values()):
            raise UserError(f"{root} holds no images for {part}: add some.")
    if shared_classes:
        for part in PARTS[1:]:
            if unknown := [name for name in parts[part] if name not in train]:
                raise UserError(
                    f"Classes of {part} in {root} that are missing from train: "
                    f"{first_few(unknown)}. Add them to train or remove them."
                )
        return
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if both := [name for name in parts[first] if name in parts[second]]:
            raise UserError(
                f"Classes in {root} that are in both {first} and {second}: {first_few(both)}. "
                "Few-shot learning is measured on classes not seen in training: put each class "
                "into one split, or put all classes side by side into one folder to have them "
                "split."
            )


def _classes_to_train_on(root: Path, train: Classes) -> str:
    named = f" ({first_few(list(train))})" if train else ""
    return f"{root} holds {len(train)} class{'' if len(train) == 1 else 'es'} to train on{named}"
