"""Names of before still work, and say what they are called now."""

from __future__ import annotations

import importlib
import sys

import pytest

from fsljax import deprecated


@pytest.mark.parametrize(("old", "new"), sorted(deprecated.MODULES.items()))
def test_a_module_is_found_by_its_old_path_with_a_warning(old: str, new: str):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new};"):
        module = importlib.import_module(old)
    now = importlib.import_module(new)
    public = [
        name for name in vars(now) if not name.startswith("_") and f"{old}.{name}" not in deprecated.NAMES
    ]
    assert all(getattr(module, name) is getattr(now, name) for name in public)


@pytest.mark.parametrize(("old", "new"), sorted(deprecated.NAMES.items()))
def test_a_name_is_found_by_its_old_one_with_a_warning(old: str, new: str):
    module, _, name = old.rpartition(".")
    new_module, _, new_name = new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new};"):
        found = getattr(importlib.import_module(module), name)
    assert found is getattr(importlib.import_module(new_module), new_name)


def test_from_an_old_package_a_module_is_imported_too(monkeypatch: pytest.MonkeyPatch):
    import fsljax.data

    monkeypatch.delattr(fsljax.data, "coco", raising=False)
    monkeypatch.delitem(sys.modules, "fsljax.data.coco", raising=False)
    with pytest.warns(DeprecationWarning):
        from fsljax.data import coco  # type: ignore[attr-defined]

        load = coco.load
    from fsljax.detection.data.sets.coco import read_folder

    assert load is read_folder


def test_a_name_that_never_was_is_none():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        importlib.import_module("fsljax.methods").nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fsljax.data.nothing")
