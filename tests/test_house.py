"""The order of the house: nothing imports upwards, no two files import each other, no room is crowded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fsljax"

# From the ground floor up; what stands in one row may not import each other.
FLOORS = [
    ["arguments", "errors", "deprecated"],
    ["storage"],
    ["parallel"],
    ["distances"],
    ["config"],
    ["losses"],
    ["clustering"],
    ["networks"],
    ["data"],
    ["evaluation"],
    ["reporting"],
    ["training"],
    ["classification", "detection"],
    ["methods"],
    ["experiment", "export", "reproduce", "api", "loading", "compare"],
    ["sweep"],
    ["command_line"],
    ["cli"],
    ["demo"],
    ["__main__"],
]
ABOVE_ALL = ["fsljax"]
TOP_LEVEL = {"api", "arguments", "errors", "distances", "experiment", "command_line", "reproduce", "export",
             "compare", "sweep", "loading", "__main__"}  # fmt: skip
METHODS = {"protonet", "magnet", "softmax", "triplet", "repmet", "repmet_detector", "pretrained"}
MOST_LINES = 300
MOST_MODULES = 14


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str) -> Iterator[str]:
    """The modules that a module imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{module} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


@cache
def graph() -> dict[str, set[str]]:
    return {name: {one for one in imports_of(name) if one in modules()} - {name} for name in modules()}


def room_of(module: str) -> str:
    """The first part of a module's path below the package."""
    return module.split(".")[1] if "." in module else module


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return groups


def folders_of(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same arrows between folders: a module's room, or within one its own folder."""

    def folder(module: str) -> str:
        above = module.rpartition(".")[0]
        return module if modules()[module].name == "__init__.py" or above == "fsljax" else above

    drawn: dict[str, set[str]] = {}
    for name, others in edges.items():
        # An `__init__` gathers what is below it.
        if modules()[name].name != "__init__.py":
            targets = {folder(other) for other in others if modules()[other].name != "__init__.py"}
            drawn.setdefault(folder(name), set()).update(targets - {folder(name)})
    return drawn


def test_no_files_import_each_other():
    assert circles(graph()) == []


def test_no_folders_import_each_other():
    assert circles(folders_of(graph())) == []


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_nothing_imports_upwards():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    rooms = {room_of(name) for name in modules()} - set(ABOVE_ALL)
    assert rooms == set(floor), "a room without a floor"
    climbing = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if room_of(name) not in ABOVE_ALL and room_of(other) not in ABOVE_ALL
        and room_of(name) != room_of(other)
        and floor[room_of(other)] >= floor[room_of(name)]
    ]  # fmt: skip
    assert climbing == []


def test_the_top_level_and_the_methods_hold_nothing_else():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == TOP_LEVEL
    assert {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__"} == METHODS


@pytest.mark.parametrize("folder", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=str)
def test_a_folder_is_not_crowded(folder: Path):
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= MOST_MODULES


def test_every_file_fits_in_a_head():
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def without_encoding(module: str) -> Iterator[str]:
    """Calls that read or write text in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        mode = next((one.value for one in node.args if isinstance(one, ast.Constant)), "r")
        text = name == "open" and owner not in ("os", "Image", "archive") and "b" not in str(mode)
        if name in ("read_text", "write_text") or (text and owner != "self"):
            yield f"{module}, line {node.lineno}: {ast.unparse(node)[:60]}"


def test_text_files_are_utf_8_in_every_locale():
    assert [found for module in modules() for found in without_encoding(module)] == []
