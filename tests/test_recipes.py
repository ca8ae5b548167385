"""Recipes are never imported, so nothing else would notice that one no longer goes with the package."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.py"))


@pytest.fixture
def load(monkeypatch):
    """Import a recipe as Python does when it is run, and forget it and those that it imports afterwards."""
    monkeypatch.setattr(sys, "path", [str(RECIPES), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in NAMES:
            del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_imports_is_there(name, load):
    try:
        load(name)
    except ModuleNotFoundError as error:
        # What pip installs for recipes may be missing; the package's own modules and other recipes may not.
        if error.name and error.name.split(".")[0] in ("srlvae", *NAMES):
            raise
        pytest.skip(f"{name} needs {error.name}: pip install '.[recipes]'")


def test_every_row_of_the_sweep_is_a_setting_of_its_own(load):
    rows = load("sweep").ROWS
    assert len({repr(config.check()) for config in rows.values()}) == len(rows)


def test_the_published_sweep_has_the_rows_of_the_recipe(load):
    recipe = load("sweep")
    settings = json.loads(json.dumps({name: asdict(config) for name, config in recipe.ROWS.items()}))
    published = json.loads((ROOT / "results/sweep-taesd.json").read_text())["rows"]
    assert list(published) == [*recipe.ROWS, *recipe.FEW]
    for name, run in published.items():
        # These three follow from the operations that a row gets.
        own = {key: run["config"][key] for key in ("steps", "checkpoint_every", "held_out")}
        assert run["config"] == settings.get(name, settings["srl"]) | own
