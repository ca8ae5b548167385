"""Commands in processes of their own, which are killed at a moment: when they touch the n-th file below a folder."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from pathlib import Path

# One server imports everything once; each command is a fork of it, which has no threads yet.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("srlvae.cli", "srlvae.bench.reconstruction", "srlvae.edits", "srlvae.finetune", "srlvae.harden", "srlvae.quickstart"),
        *("srlvae.scan", "srlvae.report", "diffusers.pipelines.auto_pipeline", "transformers.models.clip.modeling_clip"),
        *("transformers.models.clip.tokenization_clip", "killed"),
    ]
)
# In a fork, looking for garbage among what the server has imported would copy every page of it.
gc.freeze()
# What Python tells of before it is done.
TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def start(words: list[str], said: Path, root: Path, moment: int | None = None) -> multiprocessing.Process:
    """Start `srlvae` with these words. What it prints and how many files below `root` it has touched go to files at `said`.

    At the touch number `moment` it is killed, before that is done.
    """
    process = SERVER.Process(target=_run, args=(words, said, root, moment))
    process.start()
    return process


def finish(words: list[str], said: Path, root: Path, moment: int | None = None) -> int:
    """Run `srlvae` until it ends, and return its exit code."""
    process = start(words, said, root, moment)
    process.join()
    return process.exitcode


def touches(said: Path) -> int:
    """How many files a command that has ended had touched."""
    return int(said.with_suffix(".touches").read_text())


def _run(words: list[str], said: Path, root: Path, moment: int | None) -> None:
    from srlvae.cli import main
    from srlvae.harden import memory

    # Half of the time of the few steps that are taken here.
    memory.step_memory = lambda *counted: 0
    count = 0

    def heard(event: str, given: tuple) -> None:
        nonlocal count
        if event in TOUCHES and given and isinstance(given[0], str | bytes | os.PathLike):
            if os.fsdecode(os.path.abspath(given[0])).startswith(str(root)):
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = ["srlvae", *words]
    with open(said, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.addaudithook(heard)
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        total = count
        said.with_suffix(".touches").write_text(str(total))
    sys.exit(code)
