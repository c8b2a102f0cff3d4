"""Notebooks as pages: their text, code and stored outputs, as other pages look; nothing is executed."""

from __future__ import annotations

import base64
import json
import re
from pathlib import PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

_LINKS = re.compile(r"\]\((?!https?:)([^)#\s]+)\.ipynb(#[^)\s]*)?\)")
_TERMINAL_CODES = re.compile(
    r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\r(?!\n)"
)  # colours; what a progress bar overwrote


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Puts a page, and a file for each picture, in the place of every notebook; called by MkDocs."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page, pictures = as_markdown(json.loads(file.content_string), PurePosixPath(file.src_uri))
        pages = {file.src_uri.replace(".ipynb", ".md"): page.encode()}
        for name, content in (pages | pictures).items():
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages; called by MkDocs."""
    return _LINKS.sub(r"](\1.md\2)", markdown)


def as_markdown(notebook: dict[str, Any], place: PurePosixPath) -> tuple[str, dict[str, bytes]]:
    """The text of a page, and its pictures by their places."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(f"```python\n{source}\n```")
            parts.extend(shown(cell["outputs"], place, pictures))
    parts.append(f"*This page is the notebook `docs/{place}`: open it in Jupyter to try changes.*")
    return "\n\n".join(parts) + "\n", pictures


def shown(outputs: list[dict[str, Any]], place: PurePosixPath, pictures: dict[str, bytes]) -> list[str]:
    """The outputs of a cell; adds their pictures to `pictures`."""
    texts, images = "", []
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{place.stem}_{len(pictures)}.png"
            pictures[f"{place.parent}/{name}"] = base64.b64decode("".join(data["image/png"]))
            images.append(f"![Output of the cell above]({name})")
        else:
            texts += "".join(output.get("text", data.get("text/plain", "")))
    texts = _TERMINAL_CODES.sub("", texts).strip("\n")
    return ([f"```text\n{texts}\n```"] if texts else []) + images
