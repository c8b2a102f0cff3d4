"""A way to the coordination service that stays open where the service is gone.

Its client in C++ ends a program, by a page of text and an abort, as soon as the connection breaks. Behind
this relay it does not see that: `Watch` does, and says it in a sentence.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

_MOST = 1 << 16


def open_relay(host: str, port: int) -> int:
    """Passes on, in a thread, what is sent to a port of this host; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_pass_on, args=(listener, host, port), daemon=True).start()
    return int(listener.getsockname()[1])


def _pass_on(listener: socket.socket, host: str, port: int) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                inner, _ = listener.accept()
                try:
                    outer = socket.create_connection((host, port), timeout=10)
                except OSError:
                    inner.close()  # not there yet: the client tries again
                    continue
                for one, other in ((inner, outer), (outer, inner)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    one.settimeout(60)
                    selector.register(one, selectors.EVENT_READ, other)
                continue
            source = key.fileobj
            assert isinstance(source, socket.socket)
            received = b""
            with contextlib.suppress(OSError):
                received = source.recv(_MOST)
            if received:
                with contextlib.suppress(OSError):
                    key.data.sendall(received)
            else:  # the other side is left open
                selector.unregister(source)
