"""Images that stay encoded in their files and are decoded as they are read: for sets too large for memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from fsljax.errors import UserError

Index = int | slice | Sequence[int] | np.ndarray


class _Reader(NamedTuple):
    """Open files: all their records, how one is parsed, and after how many records each file ends."""

    records: Sequence[bytes]
    parse: Callable[[bytes], dict[str, Any]]
    paths: list[str]
    ends: np.ndarray


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images of a prepared TFDS data set in array_record files; reads like uint8 `[n, size, size, channels]`.

    An index (an integer, a slice, or an array of integers of any shape or of bools) decodes what it asks for,
    in one thread a processor; `take` and `joined` decode nothing. It can be sent to another process, which
    opens the files for itself.

    Attributes:
      folder: of the data set, as `fsljax.data.io.tfds_source.find` returns it.
      splits: its splits, whose records are counted through one after another.
      records: int64 `[n]`, which of these records the images are.
      image_size: side of the decoded images.
      channels: 3 for RGB, 1 for luminance.
      resampling: Pillow's filter, by number.
      content: what changes whenever the files do; the same for a copy of them.
      place: where the files are and in what state, if `content` is of names, sizes and times alone, which
        other files can have too; "" if it is of what they hold.
      crop: share of the shorter side that is kept; see `fsljax.data.io.decode.decode_image`.
    """

    folder: Path
    splits: tuple[str, ...]
    records: np.ndarray
    image_size: int
    channels: Literal[1, 3]
    resampling: int
    content: str
    place: str = ""
    crop: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.records), self.image_size, self.image_size, self.channels

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return 4

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that the decoded images would take."""
        return self.size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Index) -> np.ndarray:
        """The images at `index`; see `read`."""
        return self.read(index)

    def read(self, index: Index, *, threads: int | None = None) -> np.ndarray:
        """The images at `index`, decoded, by so many threads; None: one a processor.

        Raises:
          UserError: one of them cannot be read.
        """
        chosen = np.asarray(self.records[index])
        records = chosen.reshape(-1)
        self._open()  # once, before threads would each do it
        images = np.empty((len(records), *self.shape[1:]), np.uint8)

        def decode_into(row: int) -> None:
            images[row] = self._decode(int(records[row]))

        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for _ in pool.map(decode_into, range(len(records))):
                pass
        return images.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """All images; for sets that do fit into memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def take(self, rows: np.ndarray) -> EncodedImages:
        """The images at these positions, still encoded."""
        return replace(self, records=self.records[rows])

    def joined(self, other: EncodedImages) -> EncodedImages:
        """These images and, after them, others of the same data set.

        Raises:
          ValueError: the others are of another data set or size.
        """
        if not self.is_like(other):
            raise ValueError(
                "Images of different data sets or sizes cannot be joined while they are encoded."
            )
        return replace(self, records=np.concatenate([self.records, other.records]))

    def is_like(self, other: EncodedImages) -> bool:
        """Whether the others are of the same data set and decoded in the same way."""
        return self._kind() == other._kind()

    def fingerprint(self) -> str:
        """SHA-256 of the files' content, the records and how they are decoded."""
        digest = hashlib.sha256(repr(self._kind()[1:]).encode())
        digest.update(np.ascontiguousarray(self.records, np.int64).data)
        return digest.hexdigest()

    def _kind(self) -> tuple[object, ...]:
        cropped = (self.crop,) if self.crop else ()
        decoding = self.image_size, self.channels, self.resampling, *cropped
        return self.folder, self.content, self.splits, *decoding

    @cached_property
    def _reader(self) -> _Reader:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        from fsljax.data.io import tfds_source

        info = tfds_source.dataset_info(self.folder)
        parts = [info.splits[split] for split in self.splits]
        paths = [str(path) for part in parts for path in part.filepaths]
        ends = np.cumsum([length for part in parts for length in part.shard_lengths])
        parse = tfds_source.example_parser(info, encoded=tfds_source.image_features(info))
        return _Reader(ArrayRecordDataSource(paths), parse, paths, ends)

    def _open(self) -> _Reader:
        try:
            return self._reader
        except UserError:
            raise
        except Exception as error:  # TFDS's and ArrayRecord's readers raise many kinds
            raise UserError(
                f"The data set in {self.folder} cannot be opened: {error} Copy it again."
            ) from error

    def _decode(self, record: int) -> np.ndarray:
        from fsljax.data.io.decode import decode_bytes

        reader = self._open()
        try:
            return decode_bytes(
                reader.parse(reader.records[record])["image"],
                image_size=self.image_size,
                channels=self.channels,
                resampling=self.resampling,
                cut_first=True,
                crop=self.crop,
            )
        except Exception as error:  # as many kinds as there is damage
            file = int(np.searchsorted(reader.ends, record, side="right"))
            first = int(reader.ends[file - 1]) if file else 0
            raise UserError(
                f"Image {record - first} of {reader.paths[file]} cannot be read: {error} "
                "Copy the data set again."
            ) from error
