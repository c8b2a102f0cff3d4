"""Formulas as MathML, in a font that comes with the site: pages need neither scripts nor a network."""

from __future__ import annotations

import re
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fontTools import subset
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
NORM = re.compile(r"<mo[^>]*>(&#x02016;|‖)</mo>")
FONT_ON_SITE = "assets/math.ttf"
# Browsers show the variables x and σ by the characters 𝑥 and 𝜎.
ITALICS = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6FC, 0x1D71C)}

_characters: set[int] = set()


def on_page_content(html: str, **_: Any) -> str:
    """The HTML of a page, with its formulas converted, and what must not be broken kept on one line."""
    html = INLINE.sub(lambda found: mathml(found[1], "inline"), html)
    html = BLOCK.sub(lambda found: f'<div class="formula">{mathml(found[1], "block")}</div>', html)
    return re.sub(r"(?<=\d) (?=± \d|%)|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", html)


def mathml(latex: str, display: str) -> str:
    converted = convert(unescape(latex.strip()), display=display)
    converted = NORM.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', converted)
    _characters.update(map(ord, unescape(re.sub(r"<[^>]*>", "", converted))))
    return converted


def on_post_build(config: Any, **_: Any) -> None:
    """Writes the part of the font that the formulas use."""
    package = find_spec("ziamath")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "ziamath, whose font the formulas use, is not installed: pip install -e '.[docs]'"
        )
    font = TTFont(Path(package.origin).parent / "fonts/STIXTwoMath-Regular.ttf")
    subsetter = subset.Subsetter(subset.Options(layout_features=["ssty", "mark"]))
    subsetter.populate(unicodes=_characters | ITALICS)
    subsetter.subset(font)
    font.save(Path(config.site_dir) / FONT_ON_SITE)
