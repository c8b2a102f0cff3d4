"""The tabs of detectors: a drawn character found in a page, a boxed object in photographs."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image, ImageDraw

from fsljax.demo import sample
from fsljax.demo.events import (
    EVENT,
    add_forgetting,
    add_saving,
    chosen_file,
    keeping_row,
    sketchpad,
    told,
)
from fsljax.demo.finding import Finding, checked_box
from fsljax.demo.ink import sketch_of
from fsljax.demo.markup import class_table, found_figures, message
from fsljax.demo.models import DRAWINGS, PHOTOGRAPHS, Models
from fsljax.demo.uploads import Files, pictures_of
from fsljax.errors import UserError

_MOST_PHOTOGRAPHS = 12
_LEAST, _LEAST_OF_CHARACTERS = 0.1, 0.5
_COLOUR = (230, 60, 20)


def characters_tab(models: Models) -> None:
    """Adds the content of the tab in which characters are drawn and found."""
    begun = _beginning(models, DRAWINGS)

    @told(5)
    def enroll(session: Finding | None, drawn: str, files: Files, name: str) -> Any:
        session = begun(session)
        drawing = sketch_of(drawn)
        if drawing is None and files:
            (drawing,) = pictures_of(files, most=1)
        said = session.enroll_character(drawing, name)
        return message(said), session, class_table(session.rows(), "drawings"), None, ""

    def compose() -> Any:
        page, _ = sample.sample_page()
        return page, sample.ACROSS, page, ""

    @told(3)
    def choose(files: Files) -> Any:
        (page,) = pictures_of(files, what="page", most=1)
        return message("The page is ready."), page, page

    @told(2)
    def find(session: Finding | None, page: Image.Image | None, across: float, least: float) -> Any:
        if page is None:
            raise UserError("Choose a page first, or make one.")
        found = begun(session).find_characters(page, least, int(across))
        return message(_counted(len(found[1]))), found_figures([found])

    session, page = gr.State(None), gr.State(None)
    with gr.Row():
        with gr.Column(min_width=300):
            gr.HTML("<h2>1. Draw a character</h2>")
            drawn = sketchpad("Draw it here", "character")
            given = gr.File(label="Or choose an image of it", elem_id="character-file")
            name = gr.Textbox(label="Its name", max_length=60, elem_id="character-name")
            with gr.Row():
                enrol = gr.Button("Enrol", variant="primary", elem_id="enrol-character")
                drop = gr.Button("Forget this character")
            enrolled = gr.HTML(elem_id="character-enrolled")
            table = gr.HTML(_empty("drawings", begun), elem_id="characters")
        with gr.Column(min_width=300):
            gr.HTML("<h2>2. Find it on a page</h2>")
            chosen = gr.File(label="A page of characters", elem_id="page-file")
            made = gr.Button("Make a page of letters", elem_id="make-page")
            shown = gr.Image(
                label="Page", interactive=False, buttons=[], elem_id="page", alt_text="the page to search"
            )
            across = gr.Slider(1, 12, sample.ACROSS, step=1, label="Characters across the page (approximate)")
            least = gr.Slider(0.05, 0.95, _LEAST_OF_CHARACTERS, step=0.05, label="Score threshold")
            ask = gr.Button("Find", variant="primary", elem_id="find-characters")
            said = gr.HTML(elem_id="characters-said")
            answers = gr.HTML(elem_id="characters-found")
    kept, offered, back = keeping_row("characters")

    enrol.click(enroll, [session, drawn, given, name], [enrolled, session, table, given, drawn], **EVENT)
    made.click(compose, None, [page, across, shown, said], **EVENT)
    chosen.upload(choose, [chosen], [said, page, shown], **EVENT)
    ask.click(find, [session, page, across, least], [said, answers], **EVENT)
    add_forgetting(drop, begun, [session, name], enrolled, table, "drawings")
    _add_keeping(begun, (kept, offered, back), session, table, "drawings", DRAWINGS)


def objects_tab(models: Models) -> None:
    """Adds the content of the tab in which an object is boxed, and its like found."""
    begun = _beginning(models, PHOTOGRAPHS)

    @told(8)
    def choose(files: Files) -> Any:
        (picture,) = pictures_of(files, what="photograph", most=1)
        return message("Now click two opposite corners of the object."), picture, picture, None, *[None] * 4

    def click(picture: Image.Image, corner: Any, event: gr.SelectData) -> Any:
        x, y = event.index[:2]
        if corner is None:
            return _marked(picture, (y, x, y, x)), (y, x), None, None, None, None
        (top, bottom), (left, right) = sorted((corner[0], y)), sorted((corner[1], x))
        return _marked(picture, (top, left, bottom, right)), None, left, top, right, bottom

    def redraw(picture: Image.Image | None, *sides: float | None) -> Any:
        left, top, right, bottom = sides
        if picture is None or None in sides:
            return gr.skip()
        try:
            return _marked(picture, checked_box((top, left, bottom, right), picture))
        except UserError:
            return picture

    @told(3)
    def enroll(session: Finding | None, picture: Image.Image | None, name: str, *sides: float | None) -> Any:
        session = begun(session)
        left, top, right, bottom = sides
        said = session.enroll_box(picture, (top, left, bottom, right), name)
        return message(said), session, class_table(session.rows(), "boxes")

    @told(2)
    def find(session: Finding | None, files: Files, least: float) -> Any:
        photographs = pictures_of(files, what="photograph", most=_MOST_PHOTOGRAPHS)
        found = begun(session).find_objects(photographs, least)
        return message(_counted(sum(len(boxes) for _, boxes in found))), found_figures(found)

    session, picture, corner = gr.State(None), gr.State(None), gr.State(None)
    with gr.Row():
        with gr.Column(min_width=300):
            gr.HTML("<h2>1. Draw a box around an object</h2>")
            given = gr.File(label="A photograph of it", elem_id="object-file")
            shown = gr.Image(
                label="Click two opposite corners of the object", interactive=False, buttons=[],
                elem_id="object-photo", alt_text="the photograph with the box",
            )  # fmt: skip
            with gr.Row():
                sides = [gr.Number(label=side, precision=0, min_width=70, elem_id=f"box-{side.lower()}")
                         for side in ("Left", "Top", "Right", "Bottom")]  # fmt: skip
            name = gr.Textbox(label="Its name", max_length=60, elem_id="object-name")
            with gr.Row():
                enrol = gr.Button("Enrol", variant="primary", elem_id="enrol-object")
                drop = gr.Button("Forget this object")
            enrolled = gr.HTML(elem_id="object-enrolled")
            table = gr.HTML(_empty("boxes", begun), elem_id="objects")
        with gr.Column(min_width=300):
            gr.HTML("<h2>2. Find similar objects</h2>")
            asked = gr.File(
                label=f"Other photographs (up to {_MOST_PHOTOGRAPHS})", file_count="multiple",
                elem_id="search-files",
            )  # fmt: skip
            least = gr.Slider(0.05, 0.95, _LEAST, step=0.05, label="Score threshold")
            ask = gr.Button("Find", variant="primary", elem_id="find-objects")
            said = gr.HTML(elem_id="objects-said")
            answers = gr.HTML(elem_id="objects-found")
    kept, offered, back = keeping_row("objects")

    given.upload(choose, [given], [enrolled, picture, shown, corner, *sides], **EVENT)
    shown.select(click, [picture, corner], [shown, corner, *sides], **EVENT)
    for side in sides:
        side.input(redraw, [picture, *sides], [shown], **EVENT)
    enrol.click(enroll, [session, picture, name, *sides], [enrolled, session, table], **EVENT)
    ask.click(find, [session, asked, least], [said, answers], **EVENT)
    add_forgetting(drop, begun, [session, name], enrolled, table, "boxes")
    _add_keeping(begun, (kept, offered, back), session, table, "boxes", PHOTOGRAPHS)


def _beginning(models: Models, kind: str) -> Any:
    def begun(session: Finding | None) -> Finding:
        return Finding.of(models.detectors[kind]) if session is None else session

    return begun


def _add_keeping(begun: Any, parts: Any, session: gr.State, table: gr.HTML, unit: str, kind: str) -> None:
    (button, said), offered, back = parts

    @told(3)
    def load(path: str | None) -> Any:
        session = Finding.loaded(chosen_file(path), kind)
        return message(f"Loaded {len(session.rows())} classes."), session, class_table(session.rows(), unit)

    add_saving(button, begun, [session], said, offered)
    back.upload(load, [back], [said, session, table], **EVENT)


def _empty(unit: str, begun: Any) -> str:
    return class_table(begun(None).rows(), unit)


def _counted(count: int) -> str:
    return {0: "Nothing found: lower the score threshold, or enrol another example.", 1: "Found one."}.get(
        count, f"Found {count}."
    )


def _marked(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The photograph with a box, or with a cross where it is but a point."""
    marked = picture.copy()
    draw, line = ImageDraw.Draw(marked), max(2, round(max(picture.size) / 200))
    top, left, bottom, right = box
    if top == bottom and left == right:
        arm = 4 * line
        draw.line((left - arm, top, left + arm, top), _COLOUR, line)
        draw.line((left, top - arm, left, top + arm), _COLOUR, line)
    else:
        draw.rectangle((left, top, right, bottom), outline=_COLOUR, width=line)
    return marked
