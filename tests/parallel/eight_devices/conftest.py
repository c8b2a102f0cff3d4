"""Tests of a process with eight devices: `tests/parallel/test_eight_devices.py` starts it."""

from __future__ import annotations

import os

FLAG = "--xla_force_host_platform_device_count=8"

collect_ignore_glob = [] if FLAG in os.environ.get("XLA_FLAGS", "") else ["test_*.py"]
