"""Several processes of one run: what they agree on, how they end, and what they say where they cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fsljax.errors import UserError
from fsljax.parallel import meeting, processes
from fsljax.parallel.meeting import place_of

from .starting import Outcome, free_port, outcomes, run_script, start, start_script

LOST = (
    "fsljax: Process {} of this run ended unexpectedly (killed, or its host is down or disconnected): run "
    "the same command again on all hosts; training continues from the last checkpoint.\n"
)


def test_one_process_asks_nobody():
    tree = {"a": np.arange(3)}
    assert (processes.count(), processes.index(), processes.is_first()) == (1, 0, True)
    assert processes.gathered({"a": 1}) == [{"a": 1}]
    assert processes.from_first([1]) == [1]
    assert processes.arrays_from_first(tree, None) is tree
    assert processes.any_of(True) and not processes.any_of(False)
    assert processes.agreed(True, 5) == (True, 5)
    processes.check_alike("another config", {"seed": 1})
    with pytest.raises(UserError, match=r"^no$"), processes.together():
        raise UserError("no")
    processes.end()
    processes.fail("no", 1)


def test_asking_whether_there_are_others_starts_no_backend():
    code = (
        "from fsljax.parallel import processes as p; p.begin('h:1', 1, 0)\n"
        "with p.together(): assert p.count() == len(p.gathered(1)) == 1 and p.is_first()\n"
        "p.end(); from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )
    assert outcomes(start([[sys.executable, "-c", code]]))[0].out == "False\n"


def test_all_know_what_each_gave_and_stdout_is_theirs_alone():
    ended = run_script(
        """
        begin()
        assert (processes.count(), processes.index()) == (count, process)
        given = processes.gathered({"é": [process] * 200 * process})
        assert given == [{"é": [k] * 200 * k} for k in range(count)]
        assert processes.from_first({"n": process}) == {"n": 0}
        assert processes.any_of(process == 1) and not processes.any_of(False)
        assert processes.agreed(process == 2, 7 - process) == (True, 7)
        first = {"a": np.array([-0.0, np.nan, 1e-45], np.float32), "b": [np.array([True]), np.float64(0.1)],
                 "c": np.arange(5, dtype=np.uint8), "d": np.zeros((0, 3)), "e": np.array(2**40)}
        import jax
        like = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype), first)
        given = processes.arrays_from_first(first if processes.is_first() else None, like)
        bits = lambda tree: [(o.shape, str(o.dtype), o.tobytes()) for o in jax.tree.leaves(tree)]
        assert bits(given) == bits(first)
        with processes.together():
            pass
        processes.check_alike("another config", {"seed": 1})
        processes.end()
        print("done")
    """,
        count=3,
        env={"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert ended == [Outcome(0, "done\n", "")] * 3


def test_what_one_cannot_do_none_goes_on_with():
    ended = run_script("""
        begin()
        from fsljax.errors import NotSavedError
        try:
            with processes.together():
                if process == 1:
                    raise NotSavedError("the disk is full.")
        except UserError as error:
            processes.fail(str(error), error.exit_status)
    """)
    assert [one.status for one in ended] == [1, 1]
    assert [one.err for one in ended] == [
        "fsljax: Process 1 cannot continue: the disk is full.\n",
        "fsljax: the disk is full.\n",
    ]


def test_other_configs_are_refused_with_what_differs():
    ended = run_script("""
        begin()
        try:
            processes.check_alike("another config", {"seed": 1, "train.steps": 200 + 100 * process})
        except UserError as error:
            processes.fail(str(error), error.exit_status)
    """)
    for one in ended:
        assert one.status == 2
        assert one.err == (
            "fsljax: Process 1 runs another config than process 0: train.steps is 300 there and 200 in "
            "process 0. Start all with the same command.\n"
        )


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(victim):
    started = start_script(
        """
        begin()
        print("begun", flush=True)
        with processes.failures_told():
            if process == count - 1 or process == 1:
                time.sleep(100)
            processes.gathered(1)  # the error of the collective must not be what is seen
    """,
        count=3,
    )
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == "begun\n"
    began = time.monotonic()
    started[victim].send_signal(signal.SIGKILL)
    ended = outcomes(started)
    assert time.monotonic() - began < 60
    for number, one in enumerate(ended):
        if number != victim:
            assert (one.status, one.err) == (1, LOST.format(victim))


@pytest.mark.slow
def test_a_process_that_falls_silent_ends_the_others():
    started = start_script("""
        from fsljax.parallel import watch
        watch.Watch.__init__.__defaults__ = (10.0,)
        begin()
        print("begun", flush=True)
        time.sleep(100)
    """)
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == "begun\n"
    started[1].send_signal(signal.SIGSTOP)
    ended = outcomes(started[:1])
    started[1].kill()
    started[1].communicate()
    assert (ended[0].status, ended[0].err) == (1, LOST.format(1))


def test_an_error_of_one_is_told_to_the_others():
    ended = run_script("""
        begin()
        with processes.failures_told():
            if process == 0:
                raise ZeroDivisionError("by zero")
            processes.gathered(1)
    """)
    assert [one.status for one in ended] == [1, 1]
    assert "ZeroDivisionError: by zero" in ended[0].err and "Traceback" in ended[0].err
    assert ended[1].err == (
        "fsljax: Process 0 cannot continue: it failed with ZeroDivisionError (by zero): see its output for "
        "details.\n"
    )


def test_the_first_may_take_its_time_at_the_end_and_the_others_may_be_gone():
    ended = run_script("""
        begin()
        if process == 0:
            time.sleep(1.5)
        print("done", flush=True)
        processes.end()
        if process == 0:
            time.sleep(1)
    """)
    assert ended == [Outcome(0, "done\n", "")] * 2


def test_a_stop_at_once_stops_all():
    ended = run_script("""
        begin()
        if process == 1:
            processes.tell_stopped()
            os._exit(0)
        time.sleep(60)
    """)
    assert [one.status for one in ended] == [0, 0]
    assert ended[0].err == (
        "fsljax: Process 1 of this run was stopped, and all others with it. To continue, run the same "
        "command again on all hosts.\n"
    )


def test_sigterm_still_reaches_the_handlers_of_the_program():
    ended = run_script("""
        import signal
        heard = []
        signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        begin()
        processes.any_of(True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        print(heard)
        processes.end()
    """)
    assert (
        ended == [Outcome(0, f"[<Signals.SIGTERM: {int(signal.SIGTERM)}>]\n", "")] * 2
        or ended == [Outcome(0, f"[{int(signal.SIGTERM)}]\n", "")] * 2
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("node0", 2, 0), "--coordinator=node0 is not HOST:PORT"),
        (("node0:0", 2, 0), "is not HOST:PORT"),
        (("node0:65536", 2, 0), "is not HOST:PORT"),
        ((":1234", 2, 0), "is not HOST:PORT"),
        (("node0:http", 2, 0), "is not HOST:PORT"),
        (("node0:1234", 2, 2), "--process=2 is not one of the 2 processes: they are numbered 0 to 1"),
        (("node0:1234", 2, -1), "--process=-1 is not one of the 2"),
        (("node0:1234", 0, 0), "--processes=0 is not a number"),
        (("node0:1234", None, 0), "--processes is missing"),
        (("node0:1234", 2, None), "--process is missing"),
        (("auto", 2, None), "leave out --processes and --process"),
        (("auto", None, None), "finds no cluster here"),
    ],
)
def test_flags_that_cannot_be_are_told_in_a_sentence(arguments, said, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(UserError) as caught:
        processes.begin(*arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_places():
    assert place_of("node0:1234") == ("node0", 1234)
    assert place_of("[fe80::1]:80") == ("fe80::1", 80)


def test_a_coordinator_that_is_not_there(monkeypatch):
    monkeypatch.setattr(meeting, "_SECONDS_BEFORE_A_WORD", 0.1)
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        processes.begin(f"127.0.0.1:{(port := free_port())}", 2, 1, wait=1, say=said.append)
    assert said == [f"waiting for the coordinator at 127.0.0.1:{port} …"]
    assert str(caught.value).startswith(f"There is no coordinator at 127.0.0.1:{port} (")
    assert caught.value.exit_status == 2


def test_something_else_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(UserError, match="Process 0 cannot listen"):
            processes.begin(f"127.0.0.1:{port}", 2, 0, wait=1)


def test_processes_that_do_not_come(monkeypatch):
    monkeypatch.setattr(meeting, "_SECONDS_BEFORE_A_WORD", 0.1)
    said: list[str] = []
    with pytest.raises(UserError, match="Only 1 of 3 processes connected within 1 seconds; missing: 1, 2"):
        processes.begin(f"127.0.0.1:{free_port()}", 3, 0, wait=1, say=said.append)
    assert said == ["waiting for 2 of 3 processes …"]


def refusals(changes: dict[int, str], count: int = 2, wait: float = 60) -> list[Outcome]:
    """What processes say that begin otherwise than they should."""
    cases = "\n".join(f"if process == {number}: {change}" for number, change in changes.items())
    begun = f"try: begin(wait={wait})\nexcept UserError as error: print(error); sys.exit(error.exit_status)"
    return run_script(f"{cases}\n{begun}", count)


def test_two_that_say_they_are_the_same():
    ended = refusals({2: "process = 1"}, count=3)
    assert {one.status for one in ended} == {2}
    assert {one.out for one in ended} == {
        "Two processes were started with --process=1: give each its own --process, 0 to 2.\n"
    }


def test_two_that_say_they_are_the_first():
    early, late = sorted(one.out for one in refusals({1: "process = 0"}, wait=5))
    assert early.startswith("Only 1 of 2 processes connected") and late.startswith(
        "Process 0 cannot listen on port"
    )


def test_one_that_counts_others():
    ended = refusals({1: "count = 3"})
    assert {(one.status, one.out) for one in ended} == {
        (
            2,
            "Process 1 was started with --processes=3, but process 0 with --processes=2: "
            "give all processes the same.\n",
        )
    }


def test_one_with_other_versions():
    change = "processes.versions = lambda v=processes.versions(): v | {'jax': '0.1'}"
    assert {(one.status, one.out) for one in refusals({1: change})} == {
        (
            2,
            f"Process 1 has different versions from process 0: jax is 0.1 there and {jax.__version__} in "
            "process 0: install the same on all hosts.\n",
        )
    }


def test_a_cluster_says_who_is_who():
    port = free_port()
    script = """
from fsljax.parallel import meeting, processes
processes.begin("auto")
print(processes.index(), processes.count())
processes.end()
"""
    shared = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": str(port),
    }
    started: list[subprocess.Popen[str]] = []
    for number in range(2):
        own = {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
        started += start([[sys.executable, "-c", script]], env=shared | own)
    assert outcomes(started) == [Outcome(0, "0 2\n", ""), Outcome(0, "1 2\n", "")]


def test_devices_that_were_used_before():
    ended = run_script("""
        import jax
        jax.devices()
        try:
            begin()
        except UserError as error:
            processes.fail(str(error), error.exit_status)
    """)
    for one in ended:
        assert one.status == 2
        assert (
            one.err == "fsljax: Several processes must be started before any device is used, and only once.\n"
        )
