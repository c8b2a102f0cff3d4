"""Trains and evaluates an experiment: python launch.py --config=configs/quickstart.py"""

import signal
import sys


def stop(*_: object) -> None:
    """Ends the program while its imports take their seconds."""
    print("Stopped before anything began.", file=sys.stderr)
    sys.exit(0)


for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)

from fsljax.training.host_memory import keep_freed_memory  # noqa: E402

keep_freed_memory()  # before anything large is allocated and threads start

from fsljax.training.command_line import main  # noqa: E402

if __name__ == "__main__":
    main()
