"""Apply every mutant of the table to a copy of the package, one by one, and run the fast tests that are to notice it.

`make mutants`, or `python tests/mutants/run.py [WORD …]` for the mutants whose file or sentence has one of the words. The working
tree is never changed. Exit code 1 if a mutant survives, or if its old text is no longer there.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from table import MUTANTS, PACKAGE, ROOT, Mutant

COPIED = ("src", "tests", "recipes", "docs", "results", "pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile")
# Pytest's exit code where a test failed; all others say that it did not come to that.
FAILED = 1
# A mutant that makes a test run for ever is noticed, too.
SECONDS = 900


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("words", nargs="*", help="only mutants whose file or sentence has one of these")
    given.add_argument("--jobs", type=int, default=2, help="how many are tried at once")
    asked = given.parse_args()
    chosen = [m for m in MUTANTS if not asked.words or any(word in f"{m.file} {m.says}" for word in asked.words)]
    if gone := [m for m in chosen if m.places() != 1]:
        for mutant in gone:
            print(f"{mutant.file}: the old text of “{mutant.says}” is there {mutant.places()} times, not once")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        copies = queue.SimpleQueue[Path]()
        for number in range(asked.jobs):
            copies.put(copy_of_the_tree(Path(folder, str(number))))
        with ThreadPoolExecutor(asked.jobs) as pool:
            noticed = list(pool.map(lambda mutant: tried(mutant, copies), chosen))
    survivors = [mutant for mutant, is_noticed in zip(chosen, noticed, strict=True) if not is_noticed]
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} mutants were noticed")
    for mutant in survivors:
        print(f"survived: {mutant.file}: {mutant.says} ({mutant.tests})")
    return int(bool(survivors))


def copy_of_the_tree(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def tried(mutant: Mutant, copies: queue.SimpleQueue[Path]) -> bool:
    """Whether a test fails under the mutant. One of the copies is taken for it, and given back as it was."""
    copy, began = copies.get(), time.monotonic()
    try:
        with applied(mutant, copy / PACKAGE / mutant.file):
            code, said = run_tests(copy, mutant.tests.split())
    finally:
        copies.put(copy)
    told = {FAILED: "noticed", 0: "SURVIVED"}.get(code, f"BROKEN, exit code {code}")
    print(f"{told:9} {time.monotonic() - began:4.0f} s  {mutant.file}: {mutant.says}", flush=True)
    if code not in (FAILED, 0):
        print(said, flush=True)
    return code == FAILED


@contextmanager
def applied(mutant: Mutant, file: Path) -> Iterator[None]:
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")


def run_tests(copy: Path, tests: list[str]) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # Parts of a name may be given, as with `pytest -k`.
    files = [word for word in tests if "tests/" in word]
    parts = ["-k", " or ".join(word for word in tests if word not in files)] if len(files) < len(tests) else []
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-n", "0", *files, *parts]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return FAILED, ""
    return done.returncode, done.stdout[-2000:]


if __name__ == "__main__":
    sys.exit(main())
