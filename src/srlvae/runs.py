"""Who owns an output folder: one rule for every command.

A folder is either free or holds the record of a run. A run with the same record goes on where it stopped. For any other run, or
where something else lies in the folder, nothing is touched and the error says what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from srlvae.errors import InputError
from srlvae.files import LEFT_OUT, digest, new_name, read_record, write_json

# How many differences between two runs an error names.
NAMED = 3


def claim(
    out: Path, record: str, run: dict, *, free: Collection[str] = (), finished: str | None = None, resume: bool = True
) -> bool:
    """Make `out` the folder of `run` and write its record. Returns whether an earlier run in it goes on.

    Call this before anything is computed. `run` is plain data and is written to the file `record` in `out`. Keys in `free`, at
    any depth, do not change the result, so they may differ from the earlier run's. `finished` names a file that exists once a
    run has ended; what it would go on from is then removed. With `resume=False` only a free folder is taken; a folder that
    holds nothing but a record counts as free.

    Raises InputError if `out` is a file, holds something else, holds another run (naming what differs) or holds a finished one.
    """
    run = json.loads(json.dumps(run))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a new folder")
    if finished and (out / finished).is_file():
        with contextlib.suppress(OSError):  # it may have been killed before it came to that
            end(out, record)
        raise InputError(f"{out} holds a finished run; give a new folder")
    goes_on = holds_files(out, record)
    if goes_on and not (out / record).is_file():
        raise InputError(f"{out} has something else in it; give a new folder")
    if goes_on and not resume:
        raise InputError(f"{out} holds an interrupted run; leave out --no-resume to resume it, or give a new folder")
    if goes_on and earlier_record(out, record, run, free) == run:
        return True
    write_json(out / record, run)
    return goes_on


def end(out: Path, record: str) -> None:
    """Remove the folder in `out` of a run's `record` and checkpoints, as the run has written its result.

    It goes as a whole, or is swept away by the next command in `out`. Raises OSError where that cannot be done.
    """
    if (out / record).is_file():
        partial = new_name(out)
        (out / record).parent.rename(partial)
        shutil.rmtree(partial)


def check_free(out: Path) -> None:
    """Raise InputError if there is anything in the folder `out`, or if it is a file."""
    if out.exists() and (not out.is_dir() or holds_files(out)):
        raise InputError(f"{out} has something in it; give a new folder")


def holds_files(out: Path, record: str | None = None) -> bool:
    """Whether there are files in `out` that a run made.

    Its `record`, hidden ones, tables of what was left out, and what lies in folders of other runs do not count.
    """
    for above, folders, names in os.walk(out):
        inside = Path(above)
        if record and inside != out and (inside / record).is_file():
            folders.clear()
            continue
        files = (inside / name for name in names if not name.startswith(".") and name != LEFT_OUT)
        if any(record is None or file != out / record for file in files):
            return True
    return False


def earlier_record(out: Path, record: str, run: dict, free: Collection[str] = ()) -> dict | None:
    """The record of an earlier run in `out`, or None if there is none.

    Raises InputError if that run was another one, naming what differs outside the keys in `free`, or if it cannot be read.
    """
    if not (out / record).exists():
        return None
    before = read_record(out / record)
    changed = _differences(before, json.loads(json.dumps(run)), free)
    if changed:
        more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise InputError(f"{out} was begun with other settings: {'; '.join(changed[:NAMED])}{more}; give a new folder")
    return before


def kept_record(made: Path, wanted: dict) -> dict | None:
    """The record beside the file `made`, if both are there and it was made as `wanted` says; None if it is to be made (again).

    `wanted` names the `source` and its `source_sha256`: a source that has moved is the same, and one that has changed is not.

    Raises InputError if the file was made from another source, which would be lost.
    """
    try:
        said = read_record(record_of(made)) if made.exists() else {}
    except InputError:
        return None
    if "source" in said and all(said.get(key) != wanted[key] for key in ("source", "source_sha256")):
        raise InputError(f"{made} was made from {said['source']}, not from {wanted['source']}; give another --out")
    same = all(said.get(key) == value for key, value in wanted.items() if key != "source")
    try:
        return said if same and said.get("sha256") == digest(made) else None
    except OSError:  # it is no file, or cannot be read
        return None


def write_record(made: Path, record: dict) -> dict:
    """Write the record of how the file `made` was made beside it, with the file's digest. Returns what was written."""
    record = {**record, "sha256": digest(made)}
    write_json(record_of(made), record)
    return record


def record_of(made: Path) -> Path:
    """The record beside a file that was made."""
    return made.with_suffix(".json")


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
