"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srlvae.errors import InputError

# The table of what a run left out, in its output folder.
LEFT_OUT = "left-out.csv"
# How text files are opened that hold names of files: those need not be text, and come back as the same bytes.
NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it to `path`.

    If `write` raises, the temporary file is removed and `path` stays as it was. The temporary file has the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, as `path` may have the longest name there is; the same suffix, as writers choose a format by it.
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    partial = path.with_name(f".{short}.{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def try_writing(out: Path) -> None:
    """Write and remove a small file where the folder `out` is or will be, to learn before long work that it can be written.

    Raises InputError that names the folder and says why not.
    """
    out = Path(out)
    try:
        there = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is a file")
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"srlvae")
            file.flush()
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror or error}); give another --out") from error


def publish(partial: Path, path: Path) -> None:
    """Move the finished file `partial` to `path`, flushed to disk and with the permissions of any new file."""
    make_readable(partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def make_readable(path: Path) -> None:
    """Give a file the permissions of any new file. safetensors writes files that only their owner can read."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def shown(text: object) -> str:
    """A path or a text with one for printing, in one line: what is no text, and what a terminal obeys, becomes an escape.

    This holds for ends of lines, too, and for characters that change the direction of what stands around them.
    """
    said = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anyone may have written. Raises InputError that names the file for anything else."""
    try:
        if not path.is_file():
            raise InputError(f"{path} is not there, or is no file")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, MemoryError, RecursionError) as error:  # the latter of thousands of brackets
        raise InputError(f"cannot read {path} ({error or type(error).__name__})") from error
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path} is not a JSON object ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object, but {shortened(found)}")
    return found


def shortened(value: object, length: int = 80) -> str:
    """A value for an error, however long it is."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically.

    A file's name need not be valid text; what cannot be encoded becomes an escape that JSON reads back.
    """
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))
