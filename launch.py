"""Trains and evaluates an experiment: python launch.py --config=configs/quickstart.py"""

import contextlib
import os
import signal
import sys

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def stop(*_: object) -> None:
    """Ends the program while its imports take their seconds.

    At once: what is raised in a callback of the garbage collector would be swallowed, and the program go on.
    """
    with contextlib.suppress(OSError):
        os.write(2, b"Stopped before anything began.\n")
    os._exit(0)


def fill_standard_streams() -> None:
    """Opens those that the program was started without: a file would take their place, and what they get."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def name_files_in_utf8() -> None:
    """Starts anew where a locale says otherwise: libraries in C++ take file names in UTF-8 alone."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        if sys.stdout is not None:  # the terminal's encoding stays
            os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__mp_main__":  # a process that reads images; whoever uses these heeds signals
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

if __name__ == "__main__":
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    fill_standard_streams()
    name_files_in_utf8()

    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()  # before anything large is allocated and threads start

    from fsljax.command_line import main

    main()
