"""README and docs say what `results/` says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[1] / "recipes" / "tables.py"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(tables):
    tables.main(check=True)


def test_a_number_from_elsewhere_is_noticed(tables, tmp_path, monkeypatch):
    page = (tables.ROOT / "docs/results.md").read_text(encoding="utf-8")
    (tmp_path / "page.md").write_text(page.replace("[84%, 90%]", "[84%, 91%]").replace("→ 355 [", "→ 354 ["), encoding="utf-8")
    monkeypatch.setattr(tables, "PAGES", (tmp_path / "page.md",))
    with pytest.raises(SystemExit, match="not those of results"):
        tables.main(check=True)


def test_every_table_is_used(tables):
    pages = "".join((tables.ROOT / name).read_text(encoding="utf-8") for name in tables.PAGES)
    assert {found[2] for found in tables.MARKED.finditer(pages)} == set(tables.TABLES)


def test_no_table_of_numbers_in_readme_is_written_by_hand(tables):
    page = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    made = [found[2] for found in tables.MARKED.finditer(page)]
    assert made[:2] == ["encoders", "overview"]
    by_hand = tables.MARKED.sub("", page)
    assert not [line for line in by_hand.splitlines() if line.startswith("|")]
