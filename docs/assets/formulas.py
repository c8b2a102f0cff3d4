"""Formulas as MathML: browsers show it by themselves, so pages need neither scripts nor a network."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<(div|pre) class="arithmatex">\s*\\\[(.*?)\\\]\s*</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """The HTML of a page, with its formulas converted; called by MkDocs."""
    html = INLINE.sub(lambda found: convert(unescape(found[1].strip())), html)
    return BLOCK.sub(
        lambda found: f'<div class="formula">{convert(unescape(found[2].strip()), display="block")}</div>',
        html,
    )
