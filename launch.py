"""Trains and evaluates an experiment: python launch.py --config=configs/quickstart.py"""

from fsljax.training.host_memory import keep_freed_memory

keep_freed_memory()  # before anything large is allocated and threads start

from fsljax.training.command_line import main  # noqa: E402

if __name__ == "__main__":
    main()
