"""The console command without its script: python -m fsljax"""

from fsljax.cli.startup import leave_signals_to_the_caller

if __name__ == "__mp_main__":  # a process that reads images
    leave_signals_to_the_caller()

if __name__ == "__main__":
    import sys

    from fsljax.cli.main import main

    sys.exit(main())
