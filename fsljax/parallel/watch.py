"""Each process knows at once when another has ended, and ends too, with a sentence.

All but process 0 hold a connection to it, over which both say now and then that they are there. A process
that was killed closes it; one whose host is down falls silent. Process 0 tells the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

SILENCE = 80.0
"""After so many seconds without a word a process counts as ended."""

_WORDS_IN_A_SILENCE = 10
_GRACE = 15.0  # for the main thread, which may be about to say the same
_SECONDS_OF_A_LOOK = 1.0


class Watch:
    """Holds the connections to the other processes, in a thread of its own, until `close`.

    Attributes:
      index: number of this process.

    Args:
      index: as above.
      connections: by the numbers of the others, as `Meeting` has them.
      say: writes a sentence to standard error, without waiting for any lock.
      silence: as `SILENCE`.
    """

    def __init__(
        self,
        index: int,
        connections: dict[int, socket.socket],
        say: Callable[[str], None],
        silence: float = SILENCE,
    ) -> None:
        self.index, self._say, self._silence = index, say, silence
        self._connections = dict(connections)
        self._sending, self._deciding = threading.Lock(), threading.Lock()
        self._buffers = dict.fromkeys(connections, b"")
        self._heard = dict.fromkeys(connections, time.monotonic())
        self._ready: set[int] = set()
        self._left: set[int] = set()
        self._all_ready, self._asked = threading.Event(), threading.Event()
        self._ending = self._closed = False
        for connection in connections.values():
            connection.settimeout(5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._run, daemon=True).start()

    def finish(self) -> bool:
        """Waits until all processes have come here, and none is needed any more.

        Returns:
          Whether all are still there; if not, nothing may be done together.
        """
        if self.index:
            self._send(0, {"ready": True})
            self._all_ready.wait()
        else:
            self._note_ready()
            self._all_ready.wait()
            for number in self._connections:
                self._send(number, {"ready": True})
        return not self._left

    def close(self) -> None:
        """Lets go of the connections; what others do from now on is nothing to this process."""
        self._closed = True

    def claims_the_end(self) -> bool:
        """Whether the caller is the one that ends this process, and may say why; else it is ending."""
        with self._deciding:
            first, self._ending = not self._ending, True
            return first

    def tell(self, sentence: str, status: int, *, at_once: bool = False) -> None:
        """Says to all others why this process ends; they end with the same status.

        Args:
          sentence: what they say.
          status: their exit status.
          at_once: not even after what their main threads may be about to say.
        """
        for number in self._connections:
            self._send(number, {"ended": sentence, "status": status, "at_once": at_once})

    def explains(self, seconds: float) -> None:
        """Waits for what others say of an error here that is perhaps theirs: then this process ends."""
        self._asked.set()
        time.sleep(seconds)

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        for number, connection in self._connections.items():
            selector.register(connection, selectors.EVENT_READ, number)
        spoken = 0.0
        while not self._closed:
            for key, _ in selector.select(timeout=_SECONDS_OF_A_LOOK):
                self._receive(selector, key.data)
            now = time.monotonic()
            if now - spoken >= self._silence / _WORDS_IN_A_SILENCE:
                spoken = now
                for number in self._connections:
                    self._send(number, {})
            for number, heard in self._heard.items():
                if now - heard > self._silence:
                    self._heard[number] = float("inf")
                    self._lost(number)
        for connection in self._connections.values():
            connection.close()

    def _receive(self, selector: selectors.BaseSelector, number: int) -> None:
        received = b""
        with contextlib.suppress(OSError):
            received = self._connections[number].recv(1 << 16)
        self._heard[number] = time.monotonic()
        if not received:
            selector.unregister(self._connections[number])
            self._heard[number] = float("inf")
            self._left.add(number)
            if number not in self._ready and not (self._all_ready.is_set() or self._closed):
                self._lost(number)
            return
        *lines, self._buffers[number] = (self._buffers[number] + received).split(b"\n")
        for line in lines:
            self._understand(number, json.loads(line))

    def _understand(self, number: int, message: dict[str, Any]) -> None:
        if message:
            self._ready.add(number)  # it may go
        if "ended" in message:
            self._over(number, message)
        elif message:
            self._note_ready()

    def _note_ready(self) -> None:
        if len(self._ready) == len(self._connections):
            self._all_ready.set()

    def _lost(self, number: int) -> None:
        sentence = (
            f"Process {number} of this run ended unexpectedly (killed, or its host is down or "
            "disconnected): run the same command again on all hosts; training continues from the last "
            "checkpoint."
        )
        self._over(number, {"ended": sentence, "status": 1, "at_once": True})

    def _over(self, number: int, message: dict[str, Any]) -> None:
        """Ends this process, after the others know, unless its main thread does."""
        if not self.index:
            for other in self._connections:
                if other != number:
                    self._send(other, message)
        threading.Thread(target=self._end, kwargs=message, daemon=True).start()

    def _end(self, ended: str, status: int, at_once: bool) -> None:
        if not at_once:
            self._asked.wait(_GRACE)
        if self.claims_the_end():
            self._say(ended)
            os._exit(status)  # without flushing: whoever reads standard output may have stopped to

    def _send(self, number: int, message: dict[str, Any]) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connections[number].sendall(json.dumps(message).encode() + b"\n")
