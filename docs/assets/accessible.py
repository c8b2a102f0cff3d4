"""What the theme leaves without a name for those who hear a page."""

from __future__ import annotations

import re
from typing import Any

_SEARCH = re.compile(r'(<div class="md-search" data-md-component="search" role="dialog")>')
_SECTION = re.compile(
    r'aria-labelledby="(?P<section>__nav_\d+)_label"'
    r'(?P<between>[^>]*>\s*<label class="md-nav__title" for="(?P=section)">'
    r"\s*<span[^>]*></span>\s*(?P<title>[^<]*?)\s*</label>)"
)


def on_post_page(output: str, **_: Any) -> str:
    """The finished page, its search and the sections of its navigation named; called by MkDocs."""
    output = _SECTION.sub(r'aria-label="\g<title>"\g<between>', output)
    return _SEARCH.sub(r'\1 aria-label="Search">', output)
