"""What `fsljax.config.field` says of a field, as the reference shows it."""

from __future__ import annotations

import ast
from html import escape
from typing import Any

import griffe


class Fields(griffe.Extension):
    """Moves the meaning of each field into the docstring of its class, and leaves its default alone."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        meanings = []
        for name, member in cls.members.items():
            call = getattr(member, "value", None)
            if not isinstance(call, griffe.ExprCall) or str(call.function) not in ("field", "seed"):
                continue
            given = [of for of in call.arguments if not isinstance(of, griffe.ExprKeyword)]
            if len(given) == 2 and str(given[1])[0] in "'\"":  # else it is a field of `dataclasses`
                default, meaning = given
                member.value = default
                meanings.append(f"    {name}: {escape(ast.literal_eval(str(meaning)), quote=False)}.")
        if meanings and cls.docstring:
            heading = "" if "\nAttributes:" in cls.docstring.value else "\n\nAttributes:"
            cls.docstring.value = "\n".join([cls.docstring.value + heading, *meanings])
