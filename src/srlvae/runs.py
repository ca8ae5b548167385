"""Who owns an output folder: one rule for every command.

A folder is either free or holds the record of a run. A run with the same record goes on where it stopped. For any other run, or
where something else lies in the folder, nothing is touched and the error says what to do.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from srlvae.errors import InputError
from srlvae.files import LEFT_OUT, read_record, write_json


def claim(
    out: Path, record: str, run: dict, *, free: Collection[str] = (), finished: str | None = None, resume: bool = True
) -> bool:
    """Make `out` the folder of `run` and write its record. Returns whether an earlier run in it goes on.

    Call this before anything is computed. `run` is plain data and is written to the file `record` in `out`. Keys in `free`, at
    any depth, do not change the result, so they may differ from the earlier run's. `finished` names a file that exists once a
    run has ended. With `resume=False` only a free folder is taken; a folder that holds nothing but a record counts as free.

    Raises InputError if `out` is a file, holds something else, holds another run (naming what differs) or holds a finished one.
    """
    run = json.loads(json.dumps(run))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a new folder")
    inside = _files(out, record)
    if finished and (out / finished) in inside:
        raise InputError(f"{out} holds a finished run; give a new folder")
    if inside and (out / record) not in inside:
        raise InputError(f"{out} has something else in it; give a new folder")
    goes_on = len(inside) > 1
    if goes_on and not resume:
        raise InputError(f"{out} holds an interrupted run; go on with --resume, or give a new folder")
    if goes_on:
        earlier_record(out, record, run, free)
    write_json(out / record, run)
    return goes_on


def _files(out: Path, record: str) -> list[Path]:
    """The files in `out` that a run made: no hidden ones, no table of what was left out, none in folders of other runs."""
    runs = [path.parent for path in out.rglob(record) if path != out / record]
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".") and path.name != LEFT_OUT]
    return [path for path in files if not any(run in path.parents for run in runs)]


def earlier_record(out: Path, record: str, run: dict, free: Collection[str] = ()) -> dict | None:
    """The record of an earlier run in `out`, or None if there is none.

    Raises InputError if that run was another one, naming what differs outside the keys in `free`.
    """
    if not (out / record).exists():
        return None
    before = read_record(out / record)
    changed = _differences(before, json.loads(json.dumps(run)), free)
    if changed:
        raise InputError(f"{out} was begun with other settings: {'; '.join(changed)}; give a new folder")
    return before


def _differences(before: dict, now: dict, free: Collection[str], prefix: str = "") -> list[str]:
    found = []
    for key in sorted((before.keys() | now.keys()) - set(free)):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, free, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {_short(a)}, is {_short(b)}")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
