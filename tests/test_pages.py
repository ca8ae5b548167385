"""README and docs say what `results/` and the code say, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


@pytest.fixture(scope="module")
def tables() -> Any:
    return loaded("tables")


@pytest.fixture(scope="module")
def reference() -> Any:
    return loaded("reference")


def loaded(name: str) -> types.ModuleType:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(tables):
    tables.main(check=True)


def test_a_number_from_elsewhere_is_noticed(tables, tmp_path, monkeypatch):
    page = (tables.ROOT / "docs/results/editing.md").read_text(encoding="utf-8")
    assert "→ 7.3 [" in page
    (tmp_path / "page.md").write_text(page.replace("→ 7.3 [", "→ 7 ["), encoding="utf-8")
    monkeypatch.setattr(tables, "PAGES", (tmp_path / "page.md",))
    with pytest.raises(SystemExit, match="not those of results"):
        tables.main(check=True)


def test_every_table_is_used(tables):
    pages = "".join((tables.ROOT / name).read_text(encoding="utf-8") for name in tables.PAGES)
    assert {found[2] for found in tables.MARKED.finditer(pages)} == set(tables.TABLES)


def test_the_readme_is_one_screen_with_one_table_of_numbers(tables):
    page = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    assert [found[2] for found in tables.MARKED.finditer(page)] == ["summary"]
    by_hand = [line for line in tables.MARKED.sub("", page).splitlines() if line.startswith("|")]
    assert not [line for line in by_hand if re.search(r"\d", line.replace("diffusers", ""))]
    assert len(page.splitlines()) <= 150 and max(map(len, page.splitlines())) <= 120


def test_pages_made_from_the_code_are_up_to_date(reference):
    reference.main(check=True)


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, but for other sites."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges and the site make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_somewhere(page):
    for target in targets(page):
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"[\w/-]+\.md$", navigation, re.M)
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))


def test_every_public_module_has_a_place_in_the_reference():
    """A page lists modules, and mkdocstrings shows their public names; `app` and `cli` are used from outside Python."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    documented = set(re.findall(r"^::: ([\w.]+)$", pages, re.M))
    source = ROOT / "src" / "srlvae"
    found = {
        ".".join(("srlvae", *path.relative_to(source).with_suffix("").parts))
        for path in source.rglob("*.py")
        if not path.name.startswith("_") and path.relative_to(source).parts[0] not in ("app", "cli")
    }
    assert found | {"srlvae.zoo"} == documented
