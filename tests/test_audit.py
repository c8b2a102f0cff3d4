"""What .ci/run makes of the answers of a service of vulnerabilities."""

from __future__ import annotations

import json
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .tiny_runs import ROOT

SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
VULNERABLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}

Audit = Callable[..., int]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """The exit status for what the service answers, and for a file of exceptions."""
    script = runpy.run_path(str(ROOT / ".ci/audit.py"))

    def status(answer: object, exceptions: str = "") -> int:
        (tmp_path / "exceptions.txt").write_text(exceptions, encoding="utf-8")
        text = json.dumps({"dependencies": answer}) if isinstance(answer, list) else str(answer)

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(command, 1, text, "")

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setitem(script["main"].__globals__, "EXCEPTIONS", tmp_path / "exceptions.txt")
        return script["main"]("site-packages")

    return status


def test_without_a_vulnerability_it_passes(audit: Audit, capsys):
    assert audit([SOUND, UNKNOWN]) == 0
    assert "1 packages, 0 vulnerabilities (pypi); unknown there: ours" in capsys.readouterr().out


def test_a_vulnerability_fails_unless_a_reason_is_given(audit: Audit, capsys):
    assert audit([SOUND, VULNERABLE]) == 1
    assert "pillow 1.0: CVE-1, mended in 1.1" in capsys.readouterr().out
    assert audit([SOUND, VULNERABLE], "# names\nCVE-1 no image of others is read by it\n") == 0
    assert "(accepted: no image of others is read by it)" in capsys.readouterr().out
    assert audit([SOUND, VULNERABLE], "CVE-2 another one\n") == 1
    assert "CVE-2 is no longer found" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="CVE-1 has no reason"):
        audit([SOUND, VULNERABLE], "CVE-1\n")


@pytest.mark.parametrize("answer", ["", "a traceback", [UNKNOWN], []])
def test_a_service_that_cannot_be_asked_is_said(audit: Audit, capsys, answer: object):
    assert audit(answer) == 0
    assert "nothing was audited" in capsys.readouterr().out
