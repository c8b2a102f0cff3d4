"""What handlers of the page have in common: an error becomes a sentence in the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from absl import logging

from fsljax.demo import keeping
from fsljax.demo.markup import class_table, message
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


def keeping_row(name: str) -> tuple[tuple[gr.Button, gr.HTML], gr.File, gr.File]:
    """Adds the third step; the button and its message, the file that is offered, the file that is loaded."""
    gr.HTML("<h2>3. Save, or load</h2>")
    with gr.Row():
        with gr.Column(min_width=300):
            button = gr.Button("Save the enrolled model", elem_id=f"save-{name}")
            offered = gr.File(label="Download", visible=False, interactive=False, elem_id=f"saved-{name}")
            said = gr.HTML(elem_id=f"kept-{name}")
        with gr.Column(min_width=300):
            back = gr.File(
                label=f"Load a saved model (.zip, up to {keeping.MOST_MEGABYTES} MB)", elem_id=f"load-{name}"
            )
    return (button, said), offered, back


def add_forgetting(
    button: gr.Button, begun: Callable[..., Any], given: list[Any], said: gr.HTML, table: gr.HTML, unit: str
) -> None:
    """Lets a button remove a class from a session.

    Args:
      button: the button.
      begun: the session, of the values of `given` but the last; begins one where there is none.
      given: the session's state, what else it begins with, and the name of the class.
      said, table: where a sentence and the classes are shown.
      unit: what is counted of a class.
    """

    @told(3)
    def forget(*values: Any) -> Any:
        *state, name = values
        session = begun(*state)
        return message(session.forget(name)), session, class_table(session.rows(), unit)

    button.click(forget, given, [said, given[0], table], **EVENT)


def add_saving(
    button: gr.Button, begun: Callable[..., Any], given: list[Any], said: gr.HTML, offered: gr.File
) -> None:
    """Lets a button offer a session's model as a file; see `add_forgetting`."""

    @told(2)
    def save(*state: Any) -> Any:
        path = begun(*state).saved()
        return message("The model is ready to be downloaded."), gr.File(str(path), visible=True)

    button.click(save, given, [said, offered], **EVENT)


def chosen_file(path: str | None) -> str:
    """The saved model that was chosen.

    Raises:
      UserError: if none was.
    """
    if path is None:
        raise UserError("Choose a .zip file that this page saved.")
    return path
