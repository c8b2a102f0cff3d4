"""What handlers of the page have in common: an error becomes a sentence in the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from absl import logging

from fsljax.demo.markup import message
from fsljax.errors import UserError

EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
"""Options of every event: none is offered as an API."""


def told(outputs: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a handler's `UserError` its first output, and leaves its others as they are.

    Args:
      outputs: of the handler; the first is a message.
    """

    def around(handler: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handler)
        def handled(*given: Any) -> Any:
            try:
                return handler(*given)
            except UserError as error:
                said = message(str(error), is_error=True)
            except Exception as error:  # whatever it is, the page says so, and the terminal has the rest
                logging.exception("The demo failed.")
                said = message(
                    f"Something went wrong ({type(error).__name__}): see the terminal for details.",
                    is_error=True,
                )
            return said if outputs == 1 else (said, *[gr.skip()] * (outputs - 1))

        return handled

    return around


def sketchpad(label: str, name: str, *, visible: bool = True) -> gr.HTML:
    """A canvas for one drawing in black on white; its value is a PNG's data URL, "" while it is empty.

    Gradio's own takes a click on a tool before it draws, and has no name for those who hear the page.
    """
    shown = escape(label)
    template = (
        f'<div class="pad"><p>{shown}</p><canvas width="400" height="400" role="img" aria-label="{shown}">'
        '</canvas><button type="button" class="clear">Clear</button></div>'
    )
    script = Path(__file__).with_name("canvas.js").read_text(encoding="utf-8")
    return gr.HTML(
        "", html_template=template, js_on_load=script, elem_id=name, visible=visible, apply_default_css=False
    )
