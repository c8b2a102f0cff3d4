"""Asks a service of vulnerabilities about the packages of an environment: python .ci/audit.py SITE_PACKAGES

Runs pip-audit, which must be installed for this Python. Ends with 1 where something is found that
audit_exceptions.txt gives no reason for. A service that cannot be reached is said in a line, and no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXCEPTIONS = Path(__file__).with_name("audit_exceptions.txt")
SECONDS = 120


def exceptions() -> dict[str, str]:
    """Reasons by the name of a vulnerability."""
    lines = EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    named = [line.partition(" ") for line in lines if line.strip() and not line.startswith("#")]
    for name, _, reason in named:
        if not reason.strip():
            sys.exit(f"{EXCEPTIONS}: {name} has no reason.")
    return {name: reason.strip() for name, _, reason in named}


def audited(packages: str, service: str) -> list[dict[str, object]] | None:
    """What a service says of each package; None where it cannot be asked."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--progress-spinner=off",
        "--format=json",
        "--skip-editable",
    ]
    try:
        done = subprocess.run(
            [*command, f"--vulnerability-service={service}", f"--path={packages}"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        dependencies: list[dict[str, object]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return dependencies if any("vulns" in one for one in dependencies) else None


def main(packages: str) -> int:
    reasons = exceptions()
    for service in ("pypi", "osv"):
        dependencies = audited(packages, service)
        if dependencies is not None:
            break
    else:
        print("pip-audit: no service of vulnerabilities can be reached from here: nothing was audited.")
        return 0
    unknown = [str(one["name"]) for one in dependencies if "vulns" not in one]
    found = {
        vulnerability["id"]: f"{one['name']} {one['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for vulnerability in one.get("vulns", ())  # type: ignore[attr-defined]
    }
    for name, text in found.items():
        print(text, f"(accepted: {reasons[name]})" if name in reasons else "")
    for name in reasons.keys() - found.keys():
        print(f"{EXCEPTIONS}: {name} is no longer found: delete its line.")
    print(
        f"pip-audit: {len(dependencies) - len(unknown)} packages, {len(found)} vulnerabilities ({service})",
        end="",
    )
    print(f"; unknown there: {', '.join(unknown)}" if unknown else "")
    return int(bool(found.keys() - reasons.keys()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
