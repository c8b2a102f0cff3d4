"""What the processes of a run tell each other, over the devices of all.

JAX knows which process this is, and of how many. With one process everything here is trivial.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fsljax.errors import UserError


def count() -> int:
    """How many processes the run has."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """The number of this process, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes: process 0."""
    return index() == 0


def gathered(value: object) -> list[Any]:
    """What each process gave, in their order; all must call this.

    Args:
      value: anything that JSON holds.
    """
    if count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    text = json.dumps(value).encode()
    lengths = process_allgather(np.array([len(text)], np.int32))[:, 0]
    texts = process_allgather(_padded(text, int(lengths.max())))
    return [json.loads(bytes(row[:length])) for row, length in zip(texts, lengths, strict=True)]


def from_first(value: object) -> Any:
    """What process 0 gave; all must call this, and what the others give is nothing.

    Args:
      value: anything that JSON holds.
    """
    if count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    text = json.dumps(value).encode() if is_first() else b""
    length = int(broadcast_one_to_all(np.array([len(text)], np.int32))[0])
    return json.loads(bytes(broadcast_one_to_all(_padded(text, length)))[:length])


def arrays_from_first(tree: Any, like: Any) -> Any:
    """The arrays of process 0, to the bit; all must call this.

    Args:
      tree: a pytree of arrays; what the others give is nothing.
      like: a pytree of the same structure, whose leaves have the arrays' shapes and dtypes.
    """
    if count() == 1:
        return tree
    from jax.experimental.multihost_utils import broadcast_one_to_all

    leaves, structure = jax.tree.flatten(like)
    sizes = [int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves]
    if is_first():
        given = jax.tree.leaves(tree)
        for one, leaf in zip(given, leaves, strict=True):
            assert np.shape(one) == leaf.shape and one.dtype == leaf.dtype
        words = [_words(np.ascontiguousarray(leaf).tobytes()) for leaf in given]
    else:
        words = [_words(bytes(size)) for size in sizes]
    # Words of bits: a sum of floating-point numbers with zeros makes +0 of -0.
    sent = broadcast_one_to_all(words)
    arrays = [
        np.frombuffer(np.asarray(word).tobytes()[:size], np.dtype(leaf.dtype)).reshape(leaf.shape).copy()
        for word, size, leaf in zip(sent, sizes, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)


def agreed(flag: bool, number: int) -> tuple[bool, int]:
    """Whether any process has its flag up, and the number that process 0 gave; all must call this."""
    if count() == 1:
        return flag, number
    from jax.experimental.multihost_utils import process_allgather

    rows = process_allgather(np.array([flag, number], np.int32))
    return bool(rows[:, 0].any()), int(rows[0, 1])


def any_of(flag: bool) -> bool:
    """Whether any process has its flag up; all must call this."""
    return agreed(flag, 0)[0]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that all processes run, or none gets past: a UserError of one is everyone's.

    Within it nothing may wait for another process.
    """
    if count() == 1:
        yield
        return
    failure: UserError | None = None
    try:
        yield
    except UserError as error:
        failure = error
    told = gathered(None if failure is None else [str(failure), failure.exit_status])
    if failure is not None:
        raise failure
    for number, failed in enumerate(told):
        if failed is not None:
            of_another = UserError(as_others_say(number, failed[0]))
            of_another.exit_status = failed[1]
            raise of_another


def check_alike(what: str, facts: dict[str, object]) -> None:
    """Raises a UserError in all processes if one has other facts than process 0, saying which.

    Args:
      what: they are facts of, such as "another config".
      facts: by name, such as "train.steps"; anything that JSON holds.
    """
    if count() == 1:
        return
    first, *others = gathered(json.loads(json.dumps(facts)))
    for number, theirs in enumerate(others, 1):
        differing = [name for name in {**first, **theirs} if first.get(name) != theirs.get(name)]
        if differing:
            shown = "; ".join(
                f"{name} is {theirs.get(name, 'missing')!r} there and {first.get(name, 'missing')!r} in "
                "process 0"
                for name in differing[:3]
            )
            more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise UserError(
                f"Process {number} runs {what} than process 0: {shown}{more}. Start all with the same "
                "command."
            )


def as_others_say(number: int, sentence: str) -> str:
    """Why a process ends, in the words of the others."""
    return sentence if sentence.startswith("Process ") else f"Process {number} cannot continue: {sentence}"


def _padded(text: bytes, length: int) -> np.ndarray:
    """Bytes, to a power of two: few lengths, few programs."""
    padded = np.zeros(max(64, 1 << (length - 1).bit_length() if length else 0), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    return padded


def _words(data: bytes) -> np.ndarray:
    return np.frombuffer(data + bytes(-len(data) % 4), np.uint32)
