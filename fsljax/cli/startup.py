"""What a program does before its imports take their seconds; it imports nothing that takes long itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
INTERRUPTED = 130
"""Exit status of a program that was stopped before it had done what it was called for."""


def stop(number: int | None = None, frame: FrameType | None = None, *, status: int = 0) -> None:
    """Ends the program while its imports take their seconds.

    At once: what is raised in a callback of the garbage collector would be swallowed, and the program go on.
    """
    with contextlib.suppress(OSError):
        os.write(2, b"Stopped before anything began.\n")
    os._exit(status)


def begin(status: int = 0) -> None:
    """Heeds signals from now on, and sees that there are standard streams and names of files in UTF-8.

    Args:
      status: exit status of a program that is stopped before anything began.
    """

    def stop_here(number: int, frame: FrameType | None) -> None:
        stop(status=status)

    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop_here)
    _fill_standard_streams()
    _name_files_in_utf8()


def end() -> None:
    """Leaves signals to what comes now, as they are where a program begins with nothing."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def leave_signals_to_the_caller() -> None:
    """For a process that reads images: whoever uses these heeds signals."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _fill_standard_streams() -> None:
    """Opens those that the program was started without: a file would take their place, and what they get."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _name_files_in_utf8() -> None:
    """Starts anew where a locale says otherwise: libraries in C++ take file names in UTF-8 alone."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        if sys.stdout is not None:  # the terminal's encoding stays
            os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
