"""Runs of the editing benchmark that are compared on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srlvae.bench.editing import RESULT
from srlvae.errors import InputError
from srlvae.files import read_record


@dataclass(frozen=True)
class Run:
    """A run of the editing benchmark: its name, its folder, and the result that the folder holds."""

    name: str
    folder: Path
    result: dict[str, Any]


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Load runs from their folders. Each is called by its folder, and by as many folders above as tell the runs apart.

    Raises InputError as `load_run` does.
    """
    parts = [folder.resolve().parts for folder in folders]
    distinct, count = len(set(parts)), 1
    while len({own[-count:] for own in parts}) < distinct:
        count += 1
    names = ["/".join(own[-count:]) for own in parts]
    return [load_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def load_run(folder: Path, name: str) -> Run:
    """Load the run that is called `name` from its folder.

    Raises InputError if the folder has no rows.
    """
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f"{folder} has no {RESULT}; run: srlvae bench editing … --out {folder}")
    result = read_record(path)
    if not result.get("rows"):
        raise InputError(f"{path} has no rows yet; the same srlvae bench editing command resumes the run")
    return Run(name, folder, result)


def other_settings(runs: list[Run]) -> str:
    """A sentence that names settings in which the protocols of runs differ, and photographs; blank if there are none.

    The hardened VAEs are what is compared.
    """
    protocols = [run.result["protocol"] | {"photographs": run.result.get("photographs", run.result["images"])} for run in runs]
    keys = [key for key in protocols[0] if key not in ("hardened", "twin", "batch_size")]
    names = [key for key in keys if any(other.get(key) != protocols[0][key] for other in protocols[1:])]
    return f"These runs differ in {', '.join(names)}: compare within a run, not between them." if names else ""
