"""Files of PyTorch's written without it, with whatever an author of bad intent would write."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int",
         "int16": "Short",
         "int8": "Char", "uint8": "Byte", "bool": "Bool", "bfloat16": "BFloat16"}  # fmt: skip
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
MAGIC = 0x1950A86A20F9469CFC6C


def plain(value: object) -> bytes:
    """The codes of plain data, without the beginning and the end of a pickle."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(plain, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def storage(key: str, kind: str, length: int, view: object = None) -> bytes:
    view_code = b"" if view is False else plain(view)
    return (
        b"(" + plain("storage") + named(kind) + plain(key) + plain("cpu") + plain(length) + view_code + b"tQ"
    )


def tensor(of: bytes, offset: Any, shape: Any, strides: Any) -> bytes:
    hooks = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", of, *map(plain, (offset, shape, strides, False)), hooks)


def state_dict(items: Mapping[str, bytes]) -> bytes:
    codes = called("collections.OrderedDict") + b"("
    for name, code in items.items():
        codes += plain(name) + code
    return codes + b"u"


def whole(root: bytes) -> bytes:
    return b"\x80\x02" + root + b"."


def of_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The codes of tensors, and storages by their keys."""
    codes, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        strides = tuple(
            stride // array.itemsize for stride in np.ascontiguousarray(array).strides[: array.ndim]
        )
        of = storage(str(number), f"torch.{KINDS[array.dtype.name]}Storage", array.size)
        codes[name] = tensor(of, 0, array.shape, strides)
        storages[str(number)] = array.tobytes()
    return codes, storages


def zipped(
    root: bytes, storages: Mapping[str, bytes], *, order: bytes = b"little", packed: bool = False
) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        archive.writestr("archive/data.pkl", whole(root))
        archive.writestr("archive/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def in_sequence(
    root: bytes, storages: Mapping[str, bytes], sizes: Mapping[str, int], *, system: object = None,
    keys: Sequence[str] | None = None,
) -> bytes:  # fmt: skip
    """The format before zip; `sizes` are of each storage's numbers, in bytes."""
    heads = [MAGIC, 1001, SYSTEM if system is None else system]
    content = b"".join(pickle.dumps(one, 2) for one in heads) + whole(root)
    content += pickle.dumps(list(storages) if keys is None else list(keys), 2)
    for key, numbers in storages.items():
        content += struct.pack("<q", len(numbers) // sizes[key]) + numbers
    return content


def write_torch(path: Path, arrays: Mapping[str, np.ndarray], *, old: bool = False) -> Path:
    codes, storages = of_arrays(arrays)
    root = state_dict(codes)
    sizes = {str(number): array.itemsize for number, array in enumerate(arrays.values())}
    path.write_bytes(in_sequence(root, storages, sizes) if old else zipped(root, storages))
    return path
