"""Arguments of the command line, before its flags are parsed."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict
from ml_collections.config_flags.tuple_parser import TupleParser

from fsljax.config.arguments import with_names

CONFIG = ConfigDict({"names": (), "path": "", "shots": (1, 5), "section": {"names": ("bird", "cow")}})
NAMES = {
    ("--config.names=cat,dog",): ("cat", "dog"),
    ("--config.names=fire hydrant, 2-door car",): ("fire hydrant", "2-door car"),
    ("--config.names=traffic light",): ("traffic light",),
    ("--config.names", "cat,dog"): ("cat", "dog"),
    ("-config.section.names=cat,dog",): ("cat", "dog"),
    ("--config.names=('cat','dog')",): ("cat", "dog"),
    ("--config.names=cat",): ("cat",),
    ("--config.names=()",): (),
}


@pytest.mark.parametrize("given", NAMES, ids=" ".join)
def test_names_between_commas_need_no_quotes(given: tuple[str, ...]):
    parsed = with_names(["launch.py", *given, "--mode=train"], CONFIG)
    assert len(parsed) == len(given) + 2
    assert TupleParser().parse(parsed[-2].rpartition("=")[2]) == NAMES[given]


@pytest.mark.parametrize(
    "argument", ["--config.shots=a,b", "--config.path=a,b", "--config.name=a,b", "--mode=a,b", "--config"]
)
def test_other_arguments_stay(argument: str):
    assert with_names(["launch.py", argument, "a,b"], CONFIG) == ["launch.py", argument, "a,b"]
