"""What pickles of PyTorch's name: storages, views of them as tensors, and how these are made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fsljax.storage.pickled_data import DamagedError, Ordered, shown

_MOST_AXES = 32
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_STORAGES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": _BFLOAT16, "Long": "<i8", "Int": "<i4",
    "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
_DTYPES = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": _BFLOAT16, "int64": "<i8",
    "int32": "<i4", "int16": "<i2", "int8": "i1", "uint8": "u1", "uint16": "<u2", "uint32": "<u4",
    "uint64": "<u8", "bool": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """Numbers in a row in a file, or a part of them.

    Attributes:
      key: of the row.
      kind: of each number.
      whole: how many numbers the row has.
      start, length: of the part.
    """

    key: str
    kind: np.dtype[Any]
    whole: int
    start: int
    length: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage that was found to lie within it."""

    storage: Storage
    kind: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage_of(identifier: object) -> Storage:
    """What a persistent id stands for; the view at the end of it is of files from before 2018."""
    if not isinstance(identifier, tuple) or identifier[:1] != ("storage",) or len(identifier) not in (5, 6):
        raise DamagedError("its pickle refers to something that is not a storage")
    _, kind, key, _, whole, *views = identifier
    if not isinstance(kind, np.dtype) or not isinstance(key, str) or not _are_sizes([whole]):
        raise DamagedError("its pickle refers to a storage without a type or length")
    start, length = 0, whole
    if views and views[0] is not None:
        _, start, length = views[0]
        if not _are_sizes([start, length]) or start + length > whole:
            raise DamagedError(f"a part of its storage {shown(key)} lies outside it")
    return Storage(key, kind, whole, start, length)


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    if not isinstance(storage, Storage):
        raise DamagedError("its pickle has a tensor without a storage")
    return _checked(Tensor(storage, storage.kind, offset, shape, strides), storage.length)  # type: ignore[arg-type]


def _tensor_of_bytes(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _: object,
    __: object,
    kind: object,
    *___: object,
) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(kind, np.dtype):
        raise DamagedError("its pickle has a tensor without a storage or type")
    length = storage.length * storage.kind.itemsize // kind.itemsize
    return _checked(Tensor(storage, kind, offset, shape, strides), length)  # type: ignore[arg-type]


def _parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise DamagedError("its pickle has a parameter that is not a tensor")
    return tensor


def _checked(tensor: Tensor, length: int) -> Tensor:
    """The same, if each of its numbers has a place of its own within a storage of this length."""
    shape, strides = tensor.shape, tensor.strides
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise DamagedError("its pickle has a tensor without a shape")
    if len(shape) > _MOST_AXES:
        raise DamagedError(f"its pickle has a tensor of {len(shape)} axes")
    if not _are_sizes([tensor.offset, *shape, *strides]):
        raise DamagedError(
            "its pickle has a tensor with a size, an offset or a stride that is not a valid number"
        )
    last = 0
    if 0 not in shape:
        for stride, size in sorted(zip(strides, shape, strict=True)):
            if size > 1 and stride <= last:
                raise DamagedError(f"its pickle has a tensor of shape {_short(shape)} whose elements overlap")
            last += (size - 1) * stride
    if tensor.offset + last >= length + (0 in shape):
        raise DamagedError(
            f"its pickle has a tensor of shape {_short(shape)} beyond the {length:,} numbers of its storage"
        )
    return tensor


def _are_sizes(values: Sequence[object]) -> bool:
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _short(shape: tuple[int, ...]) -> str:
    return str(shape if len(shape) <= 8 else (*shape[:8], ...)).replace("Ellipsis", "…")


_BYTES = np.dtype("u1")
NAMES: dict[str, object] = {
    "collections.OrderedDict": Ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_bytes,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.storage.UntypedStorage": _BYTES,
    "torch.UntypedStorage": _BYTES,
    **{f"torch.{name}Storage": np.dtype(kind) for name, kind in _STORAGES.items()},
    **{f"torch.{name}": np.dtype(kind) for name, kind in _DTYPES.items()},
}
