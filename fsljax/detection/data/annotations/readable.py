"""Photographs looked at before a training, which would otherwise end where the first damaged one is read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

MOST = 5_000
"""Images of a part that are looked at: half a minute on two cores."""


def check_readable(data: DetectionSet, rows: Iterable[int] | None = None) -> None:
    """Reads images, one thread a processor, and forgets them.

    Args:
      data: the images.
      rows: which; None: all. Of more than `MOST` the first ones.

    Raises:
      UserError: one is missing, damaged, or of another size than its annotation says; it tells of the first,
        and of how many others.
    """

    def failure(row: int) -> str | None:
        try:
            data.picture(row)
        except UserError as error:
            return str(error)
        return None

    chosen = sorted(set(range(len(data)) if rows is None else rows))[:MOST]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        failures = [told for told in threads.map(failure, chosen) if told is not None]
    if failures:
        others = len(failures) - 1
        more = f" {others:,} more of {len(chosen):,} images fail too." if others else ""
        raise UserError(f"{failures[0]}{more} Replace it, or remove it from the annotations.")
