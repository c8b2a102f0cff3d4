"""Plain data in pickles, by a machine of our own: it builds what it is told to know, and calls nothing else.

Python's own unpickler is held back only by what its subclasses refuse. This one has no way to import, to
look up attributes or to set them, takes no memory before the file has the bytes for it, and ends after so
many steps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

MOST_BYTES = 2**24
MOST_STEPS = 500_000
_SHOWN = 80  # characters of a name in a sentence
_LONGEST_LINE = 1000
_LONGEST_INTEGER = 16  # bytes; longer ones take their time to be printed

_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_EMPTY: dict[bytes, type] = {b"}": dict, b"]": list, b")": tuple}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_TEXTS = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"U": "<B", b"T": "<I"}
_BYTES = {b"C": "<B", b"B": "<I", b"\x8e": "<Q"}
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}
_IGNORED = {b"\x80": 1, b"\x95": 8}  # the protocol's version; how long a frame is
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


class RefusedError(Exception):
    """A pickle that asks for more than plain data; the message goes on after "The file "."""


class DamagedError(Exception):
    """Bytes that are no pickle; the message is a reason."""


class Ordered(dict[Any, Any]):
    """What stands for an `OrderedDict`."""


Build = Callable[..., object]
"""Of what a known name is called with, what it makes; raises TypeError or ValueError for other arguments."""


def read_pickle(file: BinaryIO, names: Mapping[str, object], storage: Build) -> object:
    """What the next pickle in a file holds: dicts, lists, tuples, numbers, text, bytes, and what is known.

    Args:
      file: at the beginning of the pickle; left where it ends.
      names: what the names stand for that may occur, such as "collections.OrderedDict"; the pickle may call
        those that are a `Build`.
      storage: makes something of each persistent id.

    Raises:
      RefusedError: for any other name, and for more bytes or steps than such data takes.
      DamagedError: if it is cut off or makes no sense.
    """
    machine = _Machine(file, names, storage)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:_SHOWN]
        raise DamagedError(f"its pickle makes no sense ({type(error).__name__}: {reason})") from error


def shown(name: object) -> str:
    """A name of a file in a sentence: quoted, and not longer than can be read."""
    text = name if isinstance(name, str) else type(name).__name__
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, file: BinaryIO, names: Mapping[str, object], storage: Build):
        self.file, self.names, self.storage = file, names, storage
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.bytes_left, self.steps_left = MOST_BYTES, MOST_STEPS

    def run(self) -> object:
        while (code := self.take(1)) != b".":
            self.spend(1)
            self.step(code)
        return self.stack.pop()

    def step(self, code: bytes) -> None:
        stack = self.stack
        if code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code in _NUMBERS:
            stack.append(self.number(_NUMBERS[code]))
        elif code in _TEXTS:
            stack.append(self.take(self.number(_TEXTS[code])).decode())
        elif code in _BYTES:
            stack.append(self.take(self.number(_BYTES[code])))
        elif code in _PUTS:
            self.memo[self.number(_PUTS[code])] = stack[-1]
        elif code in _GETS:
            stack.append(self.memo[self.number(_GETS[code])])
        elif code in _IGNORED:
            self.take(_IGNORED[code])
        elif code in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[code])]
            stack.append(tuple(reversed(items)))
        elif code in _STEPS:
            _STEPS[code](self)
        else:
            raise DamagedError(f"its pickle has the code {code!r}, which data never need")

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        if count > self.bytes_left:
            raise RefusedError(
                f"holds a pickle of more than {MOST_BYTES:,} bytes, more than the names of tensors ever need."
            )
        taken = self.file.read(count)
        self.bytes_left -= len(taken)
        if len(taken) < count:
            raise DamagedError("its pickle is cut off")
        return taken

    def spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise RefusedError(
                f"holds a pickle of more than {MOST_STEPS:,} steps, more than the names of tensors ever need."
            )

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        line = self.file.readline(_LONGEST_LINE)
        self.bytes_left -= len(line)
        if not line.endswith(b"\n"):
            raise DamagedError("its pickle is cut off")
        return line[:-1].decode()

    def long_integer(self) -> None:
        length = self.number("<B")
        if length > _LONGEST_INTEGER:
            raise DamagedError(f"its pickle has a whole number of {length} bytes")
        self.stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def tuple_since_mark(self) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def known(self, name: str) -> None:
        if name not in self.names:
            raise RefusedError(f"names {shown(name)}, but only tensors and plain data are read.")
        self.stack.append(self.names[name])

    def known_by_lines(self) -> None:
        module = self.line()
        self.known(f"{module}.{self.line()}")

    def known_by_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise DamagedError("its pickle names something with a value that is not text")
        self.known(f"{module}.{name}")

    def reduce(self) -> None:
        arguments, build = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple or not any(build is one for one in self.names.values()):
            raise DamagedError("its pickle calls something that is not a name")
        if build is Ordered:
            self.ordered(arguments)
        else:
            self.stack.append(build(*arguments))

    def ordered(self, arguments: tuple[Any, ...]) -> None:
        """An `OrderedDict` of no arguments, or (Python 2) of a list of pairs."""
        mapping = Ordered()
        (pairs,) = arguments or ([],)
        if type(pairs) not in (list, tuple):
            raise DamagedError("its pickle makes a dict of something other than pairs")
        self.spend(len(pairs))
        for name, value in pairs:
            _put(mapping, name, value)
        self.stack.append(mapping)

    def build(self) -> None:
        """Attributes of an `OrderedDict`, such as the versions of modules, are left out."""
        self.stack.pop()
        if type(self.stack[-1]) is not Ordered:
            raise RefusedError("sets attributes, but only tensors and plain data are read.")

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise DamagedError("its pickle appends to something that is not a list")
        self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        if type(self.stack[-1]) not in (dict, Ordered):
            raise DamagedError("its pickle sets items of something that is not a dict")
        for name, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], name, value)


def _put(mapping: dict[Any, Any], name: object, value: object) -> None:
    # The hash of a tuple that holds the same tuples again and again takes for ever.
    if name is not None and type(name) not in (str, int, float, bool, bytes):
        raise DamagedError(f"its pickle has a dict with a {type(name).__name__} as a key")
    mapping[name] = value


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _Machine.mark,
    b"t": _Machine.tuple_since_mark,
    b"e": lambda machine: machine.append(machine.since_mark()),
    b"a": lambda machine: machine.append([machine.stack.pop()]),
    b"u": lambda machine: machine.put(machine.since_mark()),
    b"s": lambda machine: machine.put([machine.stack.pop(), machine.stack.pop()][::-1]),
    b"\x8a": _Machine.long_integer,
    b"\x94": _Machine.memoize,
    b"c": _Machine.known_by_lines,
    b"\x93": _Machine.known_by_stack,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"Q": lambda machine: machine.stack.append(machine.storage(machine.stack.pop())),
}
