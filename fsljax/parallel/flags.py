"""Flags that say which process of a run this one is."""

from __future__ import annotations

from collections.abc import Callable

from absl import flags

from fsljax.errors import UserError
from fsljax.parallel import processes
from fsljax.parallel.devices import prepare

_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "For runs of several processes: HOST:PORT of process 0, or auto on a cluster."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.")
_PROCESS = flags.DEFINE_integer("process", None, "Index of this process, from 0.")
_WAIT = flags.DEFINE_integer(
    "wait", 120, "Seconds to wait for the other processes; 120 by default.", lower_bound=0
)

NAMES = [flag.name for flag in (_COORDINATOR, _PROCESSES, _PROCESS, _WAIT)]


def begin(devices: int, say: Callable[[str], None]) -> None:
    """Begins a run, of several processes where the command line asks for them.

    Args:
      devices: of all processes, as `config.mesh.devices` asks for them.
      say: writes a sentence to standard error at once, from any thread.

    Raises:
      UserError: as of `processes.begin`.
    """
    if _COORDINATOR.value is not None:
        processes.begin(
            _COORDINATOR.value, _PROCESSES.value, _PROCESS.value, devices=devices, wait=_WAIT.value, say=say
        )
    elif given := [flag.name for flag in (_PROCESSES, _PROCESS) if flag.value is not None]:
        raise UserError(
            f"--{given[0]} needs --coordinator: to run several processes, give --coordinator=HOST:PORT "
            "--processes=N --process=I, or --coordinator=auto on a cluster."
        )
    else:
        prepare(devices)


def are_given() -> bool:
    """Whether the command line asks for several processes."""
    return flags.FLAGS.is_parsed() and _COORDINATOR.value is not None
