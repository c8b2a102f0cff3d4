"""Division of classes into train, validation and test where the data name no division of their own."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Sequence

from fsljax.errors import UserError

Names = tuple[str, ...]


def split_classes(
    names: Iterable[str], fractions: Sequence[float], seed: int, *, at_least: int = 1
) -> tuple[Names, Names, Names]:
    """Divides names into three parts by a seeded rule.

    The names are ordered by the SHA-256 of `"{seed}/{name}"` (the name in Unicode form NFC, because
    systems differ in how they store accents); the first are test, the next validation,
    the rest train. The result depends on the set of names, the fractions and the seed alone: neither
    on the order in which a file system lists them nor on a library's random generator.

    Args:
      names: names of classes (or of anything else); a repeated name counts once.
      fractions: shares of train, validation and test, which sum to 1. Parts are rounded by largest
        remainder.
      seed: another seed gives another division.
      at_least: so many names go to each part whose fraction is above 0, taken from the largest part.

    Returns:
      The names of train, validation and test, each sorted.

    Raises:
      UserError: the fractions are not three shares that sum to 1, or there are too few names.
    """
    ordered = seeded_order(names, seed)
    _, validation, test = part_sizes(len(ordered), fractions, at_least=at_least)
    held_out = test + validation
    return (
        tuple(sorted(ordered[held_out:])),
        tuple(sorted(ordered[test:held_out])),
        tuple(sorted(ordered[:test])),
    )


def seeded_order(names: Iterable[str], seed: int) -> list[str]:
    """The names, each once, in the order that `split_classes` describes."""
    return sorted(set(names), key=lambda name: (_hash(name, seed), name))


def check_fractions(fractions: Sequence[float]) -> None:
    """Raises UserError unless these are three shares of at least 0 that sum to 1."""
    valid = len(fractions) == 3 and all(fraction >= 0 for fraction in fractions)
    if not valid or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UserError(
            "The fractions of train, validation and test must be three numbers of at least 0 that sum to 1, "
            f"not {tuple(fractions)}."
        )


def part_sizes(total: int, fractions: Sequence[float], *, at_least: int = 1) -> tuple[int, int, int]:
    """Sizes of train, validation and test, which sum to `total`; arguments and errors as above."""
    check_fractions(fractions)
    nonempty = [part for part in range(3) if fractions[part] > 0]
    if total < at_least * len(nonempty):
        raise UserError(
            f"{total} cannot be split into {len(nonempty)} parts of at least {at_least}: "
            f"{at_least * len(nonempty)} are needed."
        )
    shares = [total * fraction / sum(fractions) for fraction in fractions]
    # The tolerance keeps a share such as 200 * 0.16 = 31.999… whole.
    sizes = [math.floor(share + 1e-6) for share in shares]
    by_remainder = sorted(nonempty, key=lambda part: sizes[part] - shares[part])
    for part in by_remainder[: total - sum(sizes)]:
        sizes[part] += 1
    for part in nonempty:
        while sizes[part] < at_least:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[part] += 1
    return sizes[0], sizes[1], sizes[2]


def _hash(name: str, seed: int) -> bytes:
    text = f"{seed}/{unicodedata.normalize('NFC', name)}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
