"""The page, and the server that it is on."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import gradio as gr

from fsljax.demo import keeping
from fsljax.demo.finding_tabs import characters_tab, objects_tab
from fsljax.demo.models import DRAWINGS, PHOTOGRAPHS, Models
from fsljax.demo.naming_tab import naming_tab
from fsljax.errors import UserError

_TITLE = "fsljax: few-shot learning"
_MOST_WAITING = 32
_SECONDS_KEPT = 3600  # of what was uploaded
_LARGEST_UPLOAD = f"{keeping.MOST_MEGABYTES}mb"


def build(models: Models) -> gr.Blocks:
    """The page of these models."""
    cleaning = (_SECONDS_KEPT // 4, _SECONDS_KEPT)
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=cleaning) as page:
        gr.HTML(
            "<h1>Few-shot learning</h1><p>Teach a network new classes from a few examples. Everything runs "
            "on this machine; nothing is sent elsewhere.</p>"
        )
        with gr.Tabs():
            if models.classifiers:
                with gr.Tab("Name images"):
                    naming_tab(models)
            if DRAWINGS in models.detectors:
                with gr.Tab("Find a character"):
                    characters_tab(models)
            if PHOTOGRAPHS in models.detectors:
                with gr.Tab("Find objects"):
                    objects_tab(models)
        if models.missing:
            gr.Markdown("\n".join(f"- {sentence}" for sentence in models.missing))
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=1)
    return page


def start(page: gr.Blocks, host: str, port: int | None) -> str:
    """Starts the server in threads of its own; the address.

    Args:
      page: as `build` made it.
      host: the address that it binds to.
      port: None: the first free one from 7860.

    Raises:
      UserError: if it cannot bind there.
    """
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=mono).set(
        button_primary_background_fill="*primary_700", button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700", block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
    )  # fmt: skip
    options: dict[str, Any] = {
        "server_name": host, "server_port": port, "max_file_size": _LARGEST_UPLOAD, "share": False,
        "quiet": True, "prevent_thread_lock": True, "inbrowser": False, "ssr_mode": False, "pwa": False,
        "mcp_server": False, "enable_monitoring": False, "footer_links": [], "theme": theme,
        "css": _text("page.css"), "head": f"<script>{_text('page.js')}</script>",
    }  # fmt: skip
    try:
        _, address, _ = page.launch(**options)
    except OSError as error:
        where = f"port {port}" if port is not None else "ports 7860 to 7959"
        raise UserError(
            f"The demo cannot listen on {host}, {where} ({error.strerror or 'none is free'}): give another "
            "--port or --host."
        ) from error
    return str(address)


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
