"""How `jax.distributed` begins: without taking signals, without lines of its own, by the right address."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

import jax

from fsljax.errors import UserError
from fsljax.parallel.relay import open_relay

# Beyond those of `Watch`, which says in a sentence what these say by an abort.
_HEARTBEAT_SECONDS = 240


def of_the_cluster(wait: float) -> tuple[str, int, int, Sequence[int] | None]:
    """Coordinator, number of processes, number of this one, and its devices, as the cluster has them.

    Raises:
      UserError: if there is none.
    """
    from jax._src.clusters import ClusterEnv  # jax.distributed has no other door to it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(wait))
    except Exception as error:  # what its environments say comes as many types
        raise UserError(
            f"The cluster does not provide what --coordinator=auto needs ({first_line_of(error)}): give "
            "--coordinator=HOST:PORT --processes=N --process=I."
        ) from error
    coordinator, processes, process, devices = found
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--coordinator=auto finds no cluster here (SLURM, Open MPI, Kubernetes, Cloud TPU): start with "
            "srun or mpirun, or give --coordinator=HOST:PORT --processes=N --process=I."
        )
    return coordinator, processes, process, devices


def initialize(
    service: tuple[str, int],
    processes: int,
    process: int,
    visible: Sequence[int] | None,
    address: str,
    wait: float,
) -> None:
    """Begins `jax.distributed`.

    Args:
      service: host and port of the coordination service, which process 0 starts.
      processes, process: how many there are, and which one this is.
      visible: devices of this host that are this process's, as the cluster says; None: all.
      address: of this host, as the others reach it.
      wait: seconds for the others.

    Raises:
      UserError: if a device was used before.
    """
    # It would take SIGTERM from the handlers of this program.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    _use_address(address)
    host, port = service
    if process and not getattr(jax.config, "jax_mtls_cert_file", None):  # which is made out to that host
        host, port = "127.0.0.1", open_relay(host, port)
    _go_by_no_proxy(host, service[0])
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)
    try:
        jax.distributed.initialize(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            processes,
            process,
            local_device_ids=visible,
            cluster_detection_method="deactivate",
            initialization_timeout=int(wait),
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # but what jax's service says
            raise
        raise UserError(
            "Several processes must be started before any device is used, and only once."
        ) from error


def first_line_of(error: Exception) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _go_by_no_proxy(*hosts: str) -> None:
    """Processes reach each other as they did when they met, whatever the environment says of proxies."""
    ours = "no_grpc_proxy"
    besides = os.environ.get(ours) or os.environ.get("no_proxy")
    os.environ[ours] = ",".join([*([besides] if besides else []), *hosts])


def _use_address(address: str) -> None:
    """gloo would take the address that the host's name has, which may be one of the loopback."""
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src.lib import _jax  # jax itself passes no host on

        made = _jax.make_gloo_tcp_collectives
        _jax.make_gloo_tcp_collectives = functools.partial(getattr(made, "func", made), hostname=address)


@contextlib.contextmanager
def nothing_on_standard_output() -> Iterator[None]:
    """gloo writes there that it is connected."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
