"""Trains and evaluates an experiment: python launch.py --config=configs/quickstart.py"""

from fsljax.cli.startup import begin, leave_signals_to_the_caller, stop

__all__ = ["stop"]

if __name__ == "__mp_main__":  # a process that reads images
    leave_signals_to_the_caller()

if __name__ == "__main__":
    begin()

    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()  # before anything large is allocated and threads start

    from fsljax.command_line import main

    main()
