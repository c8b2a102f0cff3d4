"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from fsljax.reporting.sections import Section, render
from fsljax.storage.replacing import replacing


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    headline: str,
    sections: Sequence[Section],
    facts: Mapping[str, object] | None = None,
) -> None:
    """Writes the report; a reader sees the old file or the new one, never half of it.

    Args:
      path: where to; its folder is made.
      title: the name of the config.
      headline: the result in one line, as `fsljax.reporting.tables.headline` makes it.
      sections: in the order of the page.
      facts: date, seed, steps and the like, shown under the headline.
    """
    path = Path(path)
    figure = re.match(r"([\d.,]+ %(?: ± [\d.]+)?)\s+(.+)", headline, flags=re.DOTALL)
    page = render(
        "report",
        title=title,
        figure=figure[1] if figure else "",
        headline=figure[2] if figure else headline,
        facts={
            name: f"{value:,}" if type(value) is int and name.lower() != "seed" else str(value)
            for name, value in (facts or {}).items()
        },
        sections=[(section, Markup(section.html)) for section in sections],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
