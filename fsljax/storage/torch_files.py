"""State dicts in files of PyTorch's, zip or the format before it; nothing that is in them is run."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fsljax.errors import UserError
from fsljax.storage.pickled_data import MOST_BYTES, DamagedError, RefusedError, read_pickle, shown
from fsljax.storage.torch_tensors import NAMES, Storage, Tensor, storage_of

_ADVICE = "Save the network's state dict alone: torch.save(network.state_dict(), 'weights.pth')."
_ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Where checkpoints of trainings keep what is wanted.
_INSIDE = ("state_dict", "model", "model_state_dict", "module", "network", "net", "weights")
_MOST_LEVELS = 8
_PARALLEL = "module."  # what DataParallel puts before every name


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, floats of less than 32 bits as float32.

    It may lie in a checkpoint of a training, under "state_dict", "model" and the like; what else is there is
    left out.

    Args:
      path: of a file that `torch.save` wrote.

    Raises:
      OSError: if it cannot be read.
      UserError: if it is damaged, or holds anything but tensors and plain data, or no state dict.
    """
    try:
        with path.open("rb") as file:
            container = _Zip(file) if file.peek(4)[:4] == _ZIP else _Sequence(file)
            return _arrays(_state_dict(container.root), container)
    except (OSError, UserError):
        raise
    except RefusedError as error:
        raise UserError(f"The file {path} {error} {_ADVICE}") from error
    except Exception as error:  # zipfile raises many types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{path} is damaged, or not a PyTorch file: {reason}.") from error


class _Zip:
    """A zip archive: `NAME/data.pkl` beside `NAME/data/KEY`, none of them packed."""

    def __init__(self, file: BufferedReader):
        self.archive = zipfile.ZipFile(file)
        members = self.archive.infolist()
        packed = file.seek(0, 2)
        if any(
            one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size for one in members
        ):
            raise RefusedError("has compressed members, which PyTorch never writes.")
        if sum(member.file_size for member in members) > packed:
            raise DamagedError("its members are larger than it is")
        pickles = [one for one in members if one.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise DamagedError(f"it is a zip archive with {len(pickles) or 'no'} data.pkl")
        self.folder = pickles[0].filename.removesuffix("data.pkl")
        self.sizes = {member.filename: member.file_size for member in members}
        if (order := self._order()) != b"little":
            raise RefusedError(f"was written in {shown(order.decode(errors='replace'))} byte order.")
        if pickles[0].file_size > MOST_BYTES:
            raise RefusedError(
                f"holds a pickle of {pickles[0].file_size:,} bytes, more than the names of tensors ever need."
            )
        self.root = read_pickle(BytesIO(self.archive.read(pickles[0])), NAMES, self._storage)

    def bytes_of(self, storage: Storage) -> bytes:
        return self.archive.read(self._member(storage.key))

    def _storage(self, identifier: object) -> Storage:
        storage = storage_of(identifier)
        size = self.sizes.get(self._member(storage.key))
        if size is None:
            raise DamagedError(f"it has no storage {shown(storage.key)}")
        if size != storage.whole * storage.kind.itemsize:
            raise DamagedError(
                f"its storage {shown(storage.key)} is declared as {storage.whole:,} numbers of "
                f"{storage.kind.itemsize} bytes and has {size:,} bytes"
            )
        return storage

    def _member(self, key: str) -> str:
        return f"{self.folder}data/{key}"

    def _order(self) -> bytes:
        name = f"{self.folder}byteorder"
        if self.sizes.get(name, MOST_BYTES) > 100:
            return b"little"  # files from before 2022 have none
        return self.archive.read(name)


class _Sequence:
    """The format before zip: pickles one after the other, the state dict's among them, then the storages."""

    def __init__(self, file: BufferedReader):
        self.file = file
        self.declared: dict[str, Storage] = {}
        if read_pickle(file, NAMES, storage_of) != _MAGIC:
            raise DamagedError("it does not begin like one")
        if read_pickle(file, NAMES, storage_of) != _PROTOCOL:
            raise DamagedError("its protocol is unknown")
        system = read_pickle(file, NAMES, storage_of)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise RefusedError("was written in another byte order.")
        self.root = read_pickle(file, NAMES, self._storage)
        keys = read_pickle(file, NAMES, storage_of)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise DamagedError("it has no list of storages")
        if len(set(keys)) != len(keys) or set(keys) != set(self.declared):
            raise DamagedError("its storages are not those of its tensors")
        self.places = self._places(keys)

    def bytes_of(self, storage: Storage) -> bytes:
        self.file.seek(self.places[storage.key])
        return self.file.read(storage.whole * storage.kind.itemsize)

    def _storage(self, identifier: object) -> Storage:
        storage = storage_of(identifier)
        first = self.declared.setdefault(storage.key, storage)
        if (first.kind, first.whole) != (storage.kind, storage.whole):
            raise DamagedError(f"its storage {shown(storage.key)} is declared in two ways")
        return storage

    def _places(self, keys: list[str]) -> dict[str, int]:
        """Where the numbers of each storage begin: they follow each other, each after its length."""
        places, place = {}, self.file.tell()
        size = self.file.seek(0, 2)
        for key in keys:
            declared = self.declared[key]
            if place + 8 > size:
                raise DamagedError("it is cut off")
            self.file.seek(place)
            (length,) = struct.unpack("<q", self.file.read(8))
            if length != declared.whole:
                raise DamagedError(
                    f"its storage {shown(key)} is declared as {declared.whole:,} numbers and has {length:,}"
                )
            places[key] = place + 8
            place += 8 + length * declared.kind.itemsize
            if place > size:
                raise DamagedError("it is cut off")
        return places


def _state_dict(root: object) -> dict[str, Tensor]:
    """The tensors by name of the first state dict that a checkpoint holds, without what else is in it."""
    for _ in range(_MOST_LEVELS):
        if not isinstance(root, dict):
            break
        inside = [root[name] for name in _INSIDE if isinstance(root.get(name), dict)]
        if not inside:
            tensors = {
                name: one for name, one in root.items() if isinstance(name, str) and isinstance(one, Tensor)
            }
            if not tensors:
                raise RefusedError(f"holds no named tensors, but {_described(root)}.")
            if all(name.startswith(_PARALLEL) for name in tensors):
                tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
            return tensors
        root = inside[0]
    raise RefusedError(f"holds no state dict, but {_described(root)}.")


def _described(root: object) -> str:
    if not isinstance(root, dict):
        return f"a {'tensor' if isinstance(root, Tensor) else type(root).__name__}"
    return ", ".join(shown(name) for name in list(root)[:5]) if root else "nothing"


def _arrays(tensors: Mapping[str, Tensor], container: _Zip | _Sequence) -> dict[str, np.ndarray]:
    """Each storage is read once, however many tensors share it."""
    rows: dict[tuple[Storage, np.dtype[Any]], np.ndarray] = {}
    read: dict[str, bytes] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage, kind = tensor.storage, tensor.kind
        if (storage, kind) not in rows:
            if storage.key not in read:
                read[storage.key] = container.bytes_of(storage)
            rows[storage, kind] = _numbers(read[storage.key], storage, kind)
        row = rows[storage, kind]
        # An axis of one place may have any stride.
        steps = (s * row.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.strides, strict=True))
        arrays[name] = np.lib.stride_tricks.as_strided(
            row[tensor.offset :], tensor.shape, tuple(steps), writeable=False
        )
    return arrays


def _numbers(content: bytes, storage: Storage, kind: np.dtype[Any]) -> np.ndarray:
    start, size = storage.start * storage.kind.itemsize, storage.length * storage.kind.itemsize
    numbers: np.ndarray = np.frombuffer(content, kind, size // kind.itemsize, start)
    is_small = kind.itemsize < 4 and kind.kind in "fV"  # V: NumPy's own kinds do not have bfloat16
    return numbers.astype(np.float32) if is_small else numbers
