"""The table of mutants is up to date; `make mutants` shows that the fast tests notice each of them."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
spec = importlib.util.spec_from_file_location("table", TESTS / "mutants" / "table.py")
assert spec and spec.loader
table = sys.modules["table"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


@pytest.mark.parametrize("mutant", table.MUTANTS, ids=lambda mutant: mutant.says)
def test_a_mutant_changes_one_place_and_its_tests_are_there(mutant):
    assert mutant.places() == 1, f"the old text is not, or not once, in {mutant.file}"
    assert mutant.old != mutant.new
    files = [TESTS.parent / word for word in mutant.tests.split() if word.startswith("tests/")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    names = re.findall(r"def (test_\w+)", text)
    # Parts of ids come after the name of a test and have hyphens.
    parts = [word for word in mutant.tests.split() if not word.startswith("tests/") and "-" not in word]
    assert files and (not parts or any(part in name for part in parts for name in names) or "test_option_rows" in mutant.tests)


def test_every_room_has_mutants_and_no_two_are_the_same():
    rooms = Counter(Path(mutant.file).parts[0] for mutant in table.MUTANTS)
    assert {"images", "attacks", "models", "harden", "finetune", "scan", "metrics", "bench", "report", "cli"} <= rooms.keys()
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in table.MUTANTS}) == len(table.MUTANTS) >= 100
