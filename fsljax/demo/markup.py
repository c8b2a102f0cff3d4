"""What the page shows: messages, tables and figures as HTML that a screen reader reads well."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from PIL import Image

_THUMBNAIL = 176


class Named(NamedTuple):
    """An image and what the model says of it.

    Attributes:
      picture: the image.
      label: the name; None: unknown.
      likeliest: names and probabilities, the likeliest first.
      confidence: from 0 to 1; None: fewer than two classes are enrolled.
    """

    picture: Image.Image
    label: str | None
    likeliest: list[tuple[str, float]]
    confidence: float | None


def message(text: str, *, is_error: bool = False) -> str:
    """A sentence that is read out when it appears."""
    kind, role = ("fault", "alert") if is_error else ("done", "status")
    return f'<p class="said {kind}" role="{role}">{escape(text)}</p>' if text else ""


def class_table(rows: Sequence[tuple[str, int, Sequence[Image.Image]]], unit: str) -> str:
    """Classes with the number of their images or boxes, and a few of these.

    Args:
      rows: name, number and pictures.
      unit: what is counted, "images".
    """
    if not rows:
        return f'<p class="none">No class is enrolled yet: add {unit} in step 1.</p>'
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{count}</td>'
        f'<td class="few">{"".join(_image(one, "", 40) for one in few)}</td></tr>'
        for name, count, few in rows
    )
    head = f'<tr><th scope="col">Class</th><th scope="col">{escape(unit.capitalize())}</th>'
    return (
        f'<table class="classes"><caption>Enrolled classes</caption><thead>{head}'
        f'<th scope="col">Examples</th></tr></thead><tbody>{body}</tbody></table>'
    )


def named_figures(answers: Sequence[Named]) -> str:
    """A figure for each image: its name, confidence, and the likeliest classes."""
    return f'<div class="figures">{"".join(map(_named_figure, answers))}</div>'


def _named_figure(answer: Named) -> str:
    name = "unknown" if answer.label is None else answer.label
    bars = "".join(
        f'<li><span>{escape(label)}</span><meter min="0" max="1" value="{share:.3f}" '
        f'aria-label="probability of {escape(label)}"></meter><b>{share:.0%}</b></li>'
        for label, share in answer.likeliest
    )
    sure = "" if answer.confidence is None else f'<p class="sure">confidence {answer.confidence:.0%}</p>'
    kind = "unknown" if answer.label is None else "known"
    return (
        f"<figure>{_image(answer.picture, f'named {name}', _THUMBNAIL)}<figcaption>"
        f'<p class="name {kind}">{escape(name)}</p>{sure}<ul class="bars">{bars}</ul></figcaption></figure>'
    )


def found_figures(found: Sequence[tuple[Image.Image, Sequence[tuple[str, float]]]]) -> str:
    """A figure for each image in which boxes are drawn, with a list of them.

    Args:
      found: the drawn image, and the name and score of each box.
    """
    figures = []
    for picture, boxes in found:
        listed = "".join(f"<li>{escape(name)} <b>{score:.2f}</b></li>" for name, score in boxes)
        caption = (
            f'<ol class="found">{listed}</ol>' if listed else '<p class="name unknown">nothing found</p>'
        )
        alt = f"{len(boxes)} found" if boxes else "nothing found"
        figures.append(f"<figure>{_image(picture, alt, 640)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="figures wide">{"".join(figures)}</div>'


def _image(picture: Image.Image, alt: str, longest: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((longest, longest))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=88)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return (
        f'<img alt="{escape(alt)}" width="{small.width}" height="{small.height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )
