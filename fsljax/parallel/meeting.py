"""Processes of one run meet: process 0 listens at the coordinator's address, the others call there.

Once all have come, the service of `jax.distributed` listens there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fsljax.errors import UserError

Facts = dict[str, str]

_SECONDS_BETWEEN_CALLS = 0.5
_SECONDS_BEFORE_A_WORD = 3.0  # all start together where all is well
_LONGEST_LINE = 1 << 16
_PACKAGES = ("fsljax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Meeting(NamedTuple):
    """Processes that have met.

    Attributes:
      connections: to all others in process 0, to process 0 in the others; by their numbers.
      address: of this host, as the others reach it.
    """

    connections: dict[int, socket.socket]
    address: str


def versions() -> Facts:
    """Of the packages that decide a run's numbers, and of Python."""
    facts = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts


def place_of(coordinator: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
      UserError: if it is none.
    """
    host, _, port = coordinator.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"--coordinator={coordinator} is not HOST:PORT: give the host of process 0 and a free port "
            "there, such as --coordinator=node0:1234, the same for all processes."
        )
    return host, int(port)


def receive(
    place: tuple[str, int], processes: int, facts: Facts, wait: float, say: Callable[[str], None]
) -> Meeting:
    """Process 0's part: waits until all others have called.

    Args:
      place: host and port of the coordinator, on this host.
      processes: how many there are, this one included.
      facts: what all must have in common.
      wait: for so many seconds.
      say: shows a line.

    Raises:
      UserError: if some do not come, or one that comes is none of this run's.
    """
    try:
        listener = _listener(place[1])
    except OSError as error:
        raise UserError(
            f"Process 0 cannot listen on port {place[1]} ({error.strerror or error}): another process 0 of "
            "this run, or another program, may be using it. Give all processes another port in "
            "--coordinator."
        ) from error
    _allow_files(4 * processes)
    came: dict[int, socket.socket] = {}
    with listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        try:
            _gather(came, listener, selector, processes, facts, wait, say)
            listener.close()  # the service of jax.distributed takes its place
            for connection in came.values():
                _send(connection, {"come": True})
        except UserError as error:
            for connection in came.values():
                with contextlib.suppress(OSError):
                    _send(connection, {"refused": str(error)})
                    connection.close()
            raise
    addresses = [_address(connection) for connection in came.values()]
    return Meeting(came, next((one for one in addresses if not _is_loopback(one)), addresses[0]))


def call(
    place: tuple[str, int],
    processes: int,
    process: int,
    facts: Facts,
    wait: float,
    say: Callable[[str], None],
) -> Meeting:
    """The part of every other process: calls process 0 until it is there, and waits for its word.

    Args:
      process: the number of this one.
      place, processes, facts, wait, say: as of `receive`; the place is process 0's.

    Raises:
      UserError: if nobody is there, or this process is refused.
    """
    host, port = place
    connection = _connected(host, port, wait, say)
    try:
        _send(connection, {"process": process, "processes": processes, "facts": facts})
        connection.settimeout(2 * wait + 30)  # it has a limit of its own, and says when that is reached
        answer = json.loads(_line(connection))
        if isinstance(answer, dict) and "refused" in answer:
            raise UserError(str(answer["refused"]))
        if answer["come"]:
            return Meeting({0: connection}, _address(connection))
        raise ValueError(answer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        connection.close()
        raise UserError(
            f"The program listening at {host}:{port} is not process 0 of this run, or has ended: start all "
            "processes with the same --coordinator, one of them with --process=0 on that host."
        ) from error


def _gather(
    came: dict[int, socket.socket],
    listener: socket.socket,
    selector: selectors.BaseSelector,
    processes: int,
    facts: Facts,
    wait: float,
    say: Callable[[str], None],
) -> None:
    """Fills `came` with a connection to each other process."""
    began, told = time.monotonic(), False
    lines: dict[socket.socket, bytes] = {}
    while len(came) < processes - 1:
        passed = time.monotonic() - began
        missing = [number for number in range(1, processes) if number not in came]
        if passed > wait:
            raise UserError(
                f"Only {len(came) + 1} of {processes} processes connected within {wait:.0f} seconds; "
                f"missing: {', '.join(map(str, missing[:5]))}{' …' if len(missing) > 5 else ''}. Start all "
                "with the same --coordinator and --processes, each with its own --process."
            )
        if passed > _SECONDS_BEFORE_A_WORD and not told:
            say(f"waiting for {len(missing)} of {processes} processes …")
            told = True
        for key, _ in selector.select(timeout=0.2):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if connection is listener:
                with contextlib.suppress(OSError):
                    caller = listener.accept()[0]
                    caller.setblocking(False)
                    selector.register(caller, selectors.EVENT_READ)
                    lines[caller] = b""
                continue
            received = b""
            with contextlib.suppress(OSError):
                received = connection.recv(_LONGEST_LINE)
            lines[connection] += received
            if not received or len(lines[connection]) > _LONGEST_LINE:  # it has left again
                selector.unregister(connection)
                connection.close()
                for number in [number for number, one in came.items() if one is connection]:
                    del came[number]
            elif b"\n" in lines[connection] and connection not in came.values():
                _welcome(came, connection, lines[connection], processes, facts)


def _welcome(
    came: dict[int, socket.socket], connection: socket.socket, line: bytes, processes: int, facts: Facts
) -> None:
    try:
        hello = json.loads(line)
        number, count, theirs = int(hello["process"]), int(hello["processes"]), dict(hello["facts"])
    except (ValueError, KeyError, TypeError):
        return  # some other program; it will leave
    with _told_to(connection):
        if number in came:
            raise UserError(
                f"Two processes were started with --process={number}: give each its own --process, 0 to "
                f"{processes - 1}."
            )
        if count != processes or not 0 < number < processes:
            raise UserError(
                f"Process {number} was started with --processes={count}, but process 0 with "
                f"--processes={processes}: give all processes the same."
            )
        if differing := [name for name in sorted({*facts, *theirs}) if facts.get(name) != theirs.get(name)]:
            name = differing[0]
            raise UserError(
                f"Process {number} has different versions from process 0: {name} is "
                f"{theirs.get(name, 'not installed')} there and {facts.get(name, 'not installed')} in "
                "process 0: install the same on all hosts."
            )
    came[number] = connection


@contextlib.contextmanager
def _told_to(connection: socket.socket) -> Iterator[None]:
    """Sends a refusal to the one who is not among the others."""
    try:
        yield
    except UserError as error:
        with contextlib.suppress(OSError):
            _send(connection, {"refused": str(error)})
        raise


def _connected(host: str, port: int, wait: float, say: Callable[[str], None]) -> socket.socket:
    began, told = time.monotonic(), False
    while True:
        try:
            return socket.create_connection((host, port), timeout=max(_SECONDS_BETWEEN_CALLS, min(wait, 10)))
        except OSError as error:
            passed = time.monotonic() - began
            if passed > wait:
                raise UserError(
                    f"There is no coordinator at {host}:{port} ({error.strerror or error}): within "
                    f"{wait:.0f} seconds process 0 did not appear. Start it on that host with the same "
                    "--coordinator and --process=0."
                ) from error
            if passed > _SECONDS_BEFORE_A_WORD and not told:
                say(f"waiting for the coordinator at {host}:{port} …")
                told = True
            time.sleep(_SECONDS_BETWEEN_CALLS)


def _allow_files(count: int) -> None:
    """Lets this process hold so many connections beside its other files, where the system allows that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = soft + count if hard == resource.RLIM_INFINITY else min(soft + count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listener(port: int) -> socket.socket:
    """At all addresses of this host: its name may mean another than those that the others reach."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", port), backlog=1024)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.setblocking(True)
    connection.settimeout(10)
    connection.sendall(json.dumps(message).encode() + b"\n")


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        received = connection.recv(1)
        if not received:
            raise OSError("it has left")
        line += received
    return line


def _address(connection: socket.socket) -> str:
    return str(connection.getsockname()[0]).removeprefix("::ffff:")


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
