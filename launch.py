"""Trains and evaluates an experiment: python launch.py --config=configs/quickstart.py"""

import signal
import sys


def stop(*_: object) -> None:
    """Ends the program while its imports take their seconds."""
    print("Stopped before anything began.", file=sys.stderr)
    sys.exit(0)


if __name__ == "__main__":  # processes that read images import this file, too, and need none of it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()  # before anything large is allocated and threads start

    from fsljax.command_line import main

    main()
