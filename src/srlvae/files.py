"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from srlvae.errors import InputError
from srlvae.links import check_within
from srlvae.opened import NO_FOLLOW, open_file, open_own, read_text
from srlvae.words import shortened

try:
    import fcntl as _locks
except ImportError:  # Windows has no such locks, so there nothing that was cut off is swept away
    _locks: Any = None

# The table of what a run left out, in its output folder.
LEFT_OUT = "left-out.csv"
# How text files are opened that hold names of files: those need not be text, and come back as the same bytes.
NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
# The names of what is being written. Nobody can guess one before it is there.
PARTIAL = re.compile(r"\.srlvae-[0-9a-f]{16}\.partial(\..*)?", re.DOTALL)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it to `path`.

    If `write` raises, the temporary file is removed and `path` stays as it was. The temporary file has the suffix of `path`.

    Raises InputError that names `path` where it cannot be written, as on a full disk.
    """
    path = Path(path)
    with saying_where(path):
        _make(path.parent)
        partial = new_name(path.parent, path.suffix)
        with _new_file(partial) as mode:
            write(partial)
            publish(partial, path, mode)


def fill_folder(out: Path, write: Callable[[Path], object], last: str) -> None:
    """Let `write` fill a temporary folder in `out`, then move its files to `out`, the one called `last` after all others.

    A folder in which `last` is there is whole. Raises InputError that names `out` where it cannot be written.
    """
    with saying_where(out):
        out.mkdir(parents=True, exist_ok=True)
        partial = new_name(out)
        partial.mkdir()
        try:
            with _locked(os.open(partial, os.O_RDONLY)), _new_file(new_name(partial)) as mode:
                write(partial)
            for file in sorted(_files(partial), key=lambda file: (file == partial / last, file)):
                target = out / file.relative_to(partial)
                _make(target.parent)
                publish(file, target, mode)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def open_to_append(path: Path) -> TextIO:
    """Open a text file to add lines to it, without the half line that a run which was cut off left at its end.

    Raises InputError that names `path` where it cannot be written, or is a link or no file.
    """
    with saying_where(path):
        _make(path.parent)
        return open_own(path, newline="", **NAMES)


def _make(folder: Path) -> None:
    """Make a folder to write to. Raises InputError where it lies outside the output folder by a link."""
    check_within(folder)
    folder.mkdir(parents=True, exist_ok=True)


def publish(partial: Path, path: Path, mode: int) -> None:
    """Move the finished file `partial` to `path`, flushed to disk and with the permissions `mode`."""
    # Some libraries write files that only their owner can read.
    partial.chmod(mode)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def saying_where(path: Path) -> Iterator[None]:
    """Turn what a library raises for a file that it cannot write, as on a full disk, into an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(_not_written(path, error.strerror or error)) from error
    except Exception as error:
        # safetensors has a kind of error of its own for this.
        if type(error).__name__ == "SafetensorError" and "os error" in str(error):
            raise InputError(_not_written(path, error)) from error
        raise


def _not_written(path: Path, reason: object) -> str:
    return f"cannot write {path} ({reason}). What was there is unchanged; once this is fixed, the same command resumes the run"


def new_name(folder: Path, suffix: str = "") -> Path:
    """A name in `folder` for what is unfinished: `sweep` removes it if this process is cut off."""
    return folder / f".srlvae-{secrets.token_hex(8)}.partial{suffix}"


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """Make the file `path`, which must be new, and give its permissions: those of any new file. In the end it is removed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o666)
    with _locked(descriptor):
        try:
            yield os.fstat(descriptor).st_mode & 0o777
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Lock an open file, by which `sweep` sees that somebody is at work on it, and close it in the end."""
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed or its process ends. Returns whether it was free, or None if none can be locked."""
    if _locks is None:
        return None
    try:
        _locks.flock(descriptor, _locks.LOCK_EX | _locks.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None


def sweep(folder: Path) -> None:
    """Remove what was being written below `folder` by processes that were cut off. What is still being written is left."""
    for above, folders, names in os.walk(folder):
        for name in filter(PARTIAL.fullmatch, [*folders, *names]):
            path = Path(above, name)
            # What is open elsewhere, a link or someone else's: left alone.
            with contextlib.suppress(OSError):
                descriptor = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | NO_FOLLOW)
                try:
                    if lock(descriptor):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(descriptor)
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not PARTIAL.fullmatch(path.name))


def shown(text: object) -> str:
    """A path or a text with one for printing, in one line: what is no text, and what a terminal obeys, becomes an escape.

    This holds for ends of lines, too, and for characters that change the direction of what stands around them.
    """
    said = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError, also for what is no file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anyone may have written. Raises InputError that names the file for anything else."""
    try:
        if not path.is_file():
            raise InputError(f"{path} does not exist, or is not a file")
        check_within(path)
        found = json.loads(read_text(path))
    except (OSError, MemoryError, RecursionError) as error:  # the latter of thousands of brackets
        raise InputError(f"cannot read {path} ({error or type(error).__name__})") from error
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path} is not a JSON object ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object, but {shortened(found)}")
    return found


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically.

    A file's name need not be valid text; what cannot be encoded becomes an escape that JSON reads back.
    """
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))
