"""Apply every mutant of the table to a copy of the package, one by one, and run the fast tests that are to notice it.

`make mutants`, or `python tests/mutants/run.py [WORD …]` for mutants whose file or sentence has one of the words. The working
tree is never changed. Exit code 1 if a mutant survives, or if its old text is no longer there.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from table import MUTANTS, PACKAGE, ROOT, Mutant

COPIED = ("src", "tests", "recipes", "docs", "results", "pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile")
# Loaded once, before processes fork: half of the time of a short test.
HEAVY = ("torch", "diffusers.models", "diffusers.pipelines.stable_diffusion", "transformers", "accelerate", "typer", "skimage")
# Pytest's exit code where a test failed; all others say that it did not come to that.
FAILED, BROKEN = 1, 9
# A mutant that makes a test run for ever is noticed, too.
SECONDS = 1200


@dataclass(frozen=True)
class Trial:
    """A mutant that is being tried in a copy of the tree."""

    mutant: Mutant
    copy: Path
    began: float

    @property
    def said(self) -> Path:
        return self.copy / "said.txt"

    def ends(self, status: int) -> bool:
        """Put the copy in order, and tell whether a test has failed."""
        shutil.copy(ROOT / PACKAGE / self.mutant.file, self.copy / PACKAGE / self.mutant.file)
        code = FAILED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        told = {FAILED: "noticed", 0: "SURVIVED"}.get(code, f"BROKEN, exit code {code}")
        print(f"{told:9} {time.monotonic() - self.began:4.0f} s  {self.mutant.file}: {self.mutant.says}", flush=True)
        if code not in (FAILED, 0):
            print(self.said.read_text(encoding="utf-8")[-2000:], flush=True)
        return code == FAILED


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
    # Plugins of other packages, which are loaded by now, are of no use here.
    os.environ |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
        "DIFFUSERS_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        survivors = try_all(chosen, [copy_of_the_tree(Path(folder, str(number))) for number in range(asked.jobs)])
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


def try_all(mutants: list[Mutant], copies: list[Path]) -> list[Mutant]:
    """The mutants that no test has noticed. As many are tried at once as there are copies."""
    waiting, running, survivors = list(reversed(mutants)), dict[int, Trial](), []
    while waiting or running:
        while waiting and copies:
            trial = Trial(waiting.pop(), copies.pop(), time.monotonic())
            running[start(trial)] = trial
        process, status = os.wait()
        trial = running.pop(process)
        copies.append(trial.copy)
        if not trial.ends(status):
            survivors.append(trial.mutant)
    return survivors


def start(trial: Trial) -> int:
    """Apply a mutant, and run its tests in a process of their own, whose number is returned."""
    file = trial.copy / PACKAGE / trial.mutant.file
    file.write_text(file.read_text(encoding="utf-8").replace(trial.mutant.old, trial.mutant.new), encoding="utf-8")
    if process := os.fork():
        return process
    try:
        os._exit(run_tests(trial))
    except BaseException:
        # Whatever is raised here must not clean up after the parent.
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(BROKEN)


def run_tests(trial: Trial) -> int:
    """Run the tests of a trial in this process, which is of no use afterwards."""
    signal.alarm(SECONDS)
    with open(trial.said, "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(trial.copy)
    # For processes that tests start, and for this one.
    os.environ["PYTHONPATH"] = str(trial.copy / "src")
    sys.path[:1] = [str(trial.copy / "src")]
    return int(pytest.main(words_for_pytest(trial.mutant)))


def words_for_pytest(mutant: Mutant) -> list[str]:
    words = mutant.tests.split()
    files = [word for word in words if word.startswith("tests/")]
    parts = ["-k", " or ".join(word for word in words if word not in files)] if len(files) < len(words) else []
    return ["-x", "-q", "--no-header", "-p", "no:cacheprovider", *files, *parts]


if __name__ == "__main__":
    sys.exit(main())
