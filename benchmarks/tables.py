"""Puts benchmarks/results.json into the documentation, between marks that name what is shown.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duel

RESULTS = Path(__file__).with_name("results.json")
PAGES = ("README.md", "docs/results/speed.md")
HEADER = ["work", "fsljax", "least – most", "peers' time / ours"]
_MARKED = re.compile(r"(<!-- speed: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def cells(row: dict[str, Any], *, bold: str = "") -> list[str]:
    """A row of results as text: what was timed, ours, its spread, and the best of each peer's variants.

    Args:
      row: of results.json.
      bold: put around the ratio of a peer that is faster.
    """
    ours = next(side for side in row["sides"] if side["name"] == "fsljax")
    ends = [ours["most"], ours["least"]] if row["amount"] else [ours["least"], ours["most"]]
    spread = " – ".join(amount(row, seconds) for seconds in ends)
    ratios = [
        f"{name} {bold if ratio < 1 else ''}{ratio:.2f}×{bold if ratio < 1 else ''}"
        for name, ratio in best_of_each(row).items()
    ]
    return [row["row"], amount(row, ours["median"]), spread, ", ".join(ratios) or "–"]


def amount(row: dict[str, Any], seconds: float) -> str:
    """So much a second where the row has that, else the time."""
    if row["amount"]:
        return f"{row['amount'] / seconds:,.0f} {row['unit']}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{duel.milliseconds(seconds)} ms"


def best_of_each(row: dict[str, Any]) -> dict[str, float]:
    """The least ratio of each library as it comes, and of one that is told to keep freed memory."""
    best: dict[str, float] = {}
    for side in row["sides"]:
        if side["name"].startswith("fsljax"):
            continue
        library = side["name"].partition(" ")[0]
        name = f"{library}, tuned" if duel.TUNED in side["name"] else library
        best[name] = min(best.get(name, float("inf")), side["ratio"])
    return best


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table in Markdown; a peer that is ahead stands in bold."""
    lines = [HEADER, ["---"] * len(HEADER), *(cells(row, bold="**") for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str, results: dict[str, Any]) -> str:
    """A page with its tables as the results have them.

    A mark names rows by how they begin, with semicolons between them.

    Raises:
      ValueError: if no row begins so.
    """

    def fill(match: re.Match[str]) -> str:
        chosen = []
        for start in match[2].split("; "):
            found = [row for row in results["rows"] if row["row"].startswith(start)]
            if not found:
                raise ValueError(f"No row of results.json begins with {start!r}.")
            chosen += found
        return f"{match[1]}\n{table(chosen)}\n{match[3]}"

    return _MARKED.sub(fill, text)


def main() -> None:
    results = json.loads(RESULTS.read_text())
    for name in PAGES:
        page = duel.ROOT / name
        page.write_text(filled(page.read_text(), results))


if __name__ == "__main__":
    main()
