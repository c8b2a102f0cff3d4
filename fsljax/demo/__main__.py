"""Starts the demo: python -m fsljax.demo"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from fsljax.arguments import Parser
from fsljax.errors import UserError

_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


def main(arguments: list[str] | None = None) -> int:
    """Starts the server and waits until it is stopped; the exit status."""
    given = _parser().parse_args(arguments)
    try:
        _serve(given)
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 0
    return 0


def _serve(given: argparse.Namespace) -> None:
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The demo needs Gradio: pip install 'fsljax[demo]'.")
    os.environ.update(_QUIET)  # before Gradio is imported
    from fsljax.demo.models import load_models

    print("Loading the models …", file=sys.stderr)
    models = load_models(given.model, given.detector)
    from fsljax.demo.page import build, is_local, start

    page = build(models)
    for sentence in models.missing:
        print(sentence, file=sys.stderr)
    address = start(page, given.host, given.port)
    if not is_local(given.host):
        print("Everyone who can reach this address can use the demo.", file=sys.stderr)
    print(f"The demo is at {address} (Ctrl-C stops it).", flush=True)
    page.block_thread()


def _parser() -> argparse.ArgumentParser:
    parser = Parser("demo", "Shows few-shot learning in the browser.")
    parser.prog = "python -m fsljax.demo"
    parser.add_argument(
        "--model", metavar="MODEL",
        help="a saved classifier, a run's workdir, or the name of pretrained weights; by default the "
        "weights efficientnet_lite0 for photographs and the shipped protonet_lake for drawings",
    )  # fmt: skip
    parser.add_argument(
        "--detector", metavar="FOLDER", action="append", default=[],
        help="a saved detector or a run's workdir; replaces the shipped one of its kind; may be given twice",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; this machine only by default"
    )
    parser.add_argument(
        "--port", type=_port, help="port to listen on; by default the first free one from 7860"
    )
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
