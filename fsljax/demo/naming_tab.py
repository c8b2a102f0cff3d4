"""The tab in which images are enrolled into classes, and new ones named."""

from __future__ import annotations

from typing import Any

import gradio as gr

from fsljax.demo.events import (
    EVENT,
    add_forgetting,
    add_saving,
    chosen_file,
    keeping_row,
    sketchpad,
    told,
)
from fsljax.demo.ink import sketch_of
from fsljax.demo.markup import class_table, message, named_figures
from fsljax.demo.models import DRAWINGS, Models
from fsljax.demo.naming import Naming
from fsljax.demo.uploads import Files, pictures_of
from fsljax.errors import UserError

_THRESHOLD = 0.5


def naming_tab(models: Models) -> None:
    """Adds the tab's content."""
    kinds = list(models.classifiers)

    def begun(session: Naming | None, kind: str) -> Naming:
        return Naming.of(models.classifiers[kind]) if session is None else session

    def pictures(files: Files, drawn: str) -> list[Any]:
        sketch = sketch_of(drawn)
        if sketch is None:
            return pictures_of(files)
        return [*(pictures_of(files) if files else []), sketch]

    @told(5)
    def enroll(session: Naming | None, kind: str, files: Files, drawn: str, name: str) -> Any:
        session = begun(session, kind)
        said = session.enroll(pictures(files, drawn), name)
        return message(said), session, class_table(session.rows(), "images"), None, ""

    @told(2)
    def name_images(session: Naming | None, kind: str, files: Files, drawn: str, threshold: float) -> Any:
        answers = begun(session, kind).name(pictures(files, drawn), threshold)
        few = "" if answers[0].confidence is not None else " Enrol a second class to detect unknown images."
        named = "1 image" if len(answers) == 1 else f"{len(answers)} images"
        return message(f"Named {named}.{few}"), named_figures(answers)

    @told(4)
    def load(path: str | None) -> Any:
        session = Naming.loaded(chosen_file(path))
        if session.takes_drawings and DRAWINGS not in kinds:
            raise UserError(
                "This model is for drawings, but the demo was started with a model for photographs."
            )
        table = class_table(session.rows(), "images")
        return message(f"Loaded {len(session.rows())} classes."), session, table, ""

    def switch(kind: str) -> Any:
        sketch = gr.HTML("", visible=kind == DRAWINGS)
        fresh = Naming.of(models.classifiers[kind])
        return fresh, class_table(fresh.rows(), "images"), sketch, sketch, "", "", ""

    session = gr.State(None)
    draws = kinds[0] == DRAWINGS
    kind = gr.Radio(
        kinds, value=kinds[0], label="What are your images?", visible=len(kinds) > 1,
        info="Drawings are single characters or symbols; changing this starts over.",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(min_width=300):
            gr.HTML("<h2>1. Enrol</h2><p>Add a few images of one class, then of the next.</p>")
            given = gr.File(label="Images of one class", file_count="multiple", elem_id="enrol-files")
            drawn = sketchpad("Or draw one", "enrol-drawing", visible=draws)
            name = gr.Textbox(label="Class name", max_length=60, elem_id="enrol-name")
            with gr.Row():
                enrol = gr.Button("Enrol", variant="primary", elem_id="enrol")
                drop = gr.Button("Forget this class", elem_id="forget")
            enrolled = gr.HTML(elem_id="enrolled")
            first = models.classifiers[kinds[0]]
            table = gr.HTML(class_table(Naming.of(first).rows(), "images"), elem_id="classes")
        with gr.Column(min_width=300):
            gr.HTML("<h2>2. Name new images</h2><p>Images that match no class are unknown.</p>")
            asked = gr.File(label="New images", file_count="multiple", elem_id="name-files")
            drawn_too = sketchpad("Or draw one", "name-drawing", visible=draws)
            threshold = gr.Slider(
                0, 1, _THRESHOLD, step=0.05, label="Unknown below this confidence", elem_id="threshold"
            )
            ask = gr.Button("Name", variant="primary", elem_id="name")
            named = gr.HTML(elem_id="named")
            answers = gr.HTML(elem_id="answers")
    kept, offered, back = keeping_row("classifier")

    enrol.click(
        enroll, [session, kind, given, drawn, name], [enrolled, session, table, given, drawn], **EVENT
    )
    add_forgetting(drop, begun, [session, kind, name], enrolled, table, "images")
    ask.click(name_images, [session, kind, asked, drawn_too, threshold], [named, answers], **EVENT)
    add_saving(kept[0], begun, [session, kind], kept[1], offered)
    back.upload(load, [back], [kept[1], session, table, answers], **EVENT)
    changed = [session, table, drawn, drawn_too, enrolled, named, answers]
    kind.input(switch, [kind], changed, **EVENT)
