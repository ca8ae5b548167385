"""One process at a time in an output folder: a lock that the operating system takes back when its holder ends or is killed."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from srlvae.errors import InputError
from srlvae.files import lock, saying_where, sweep
from srlvae.links import kept_within
from srlvae.opened import NO_FOLLOW

P = ParamSpec("P")
T = TypeVar("T")
# Descriptors of the locks of this process, by the real path of the folder; FORKED where its parent has the lock.
_held: dict[str, int] = {}
FORKED = -1


def holds(argument: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function hold the folder that it is given as `argument` for as long as it works; see `hold`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def held(*args: P.args, **kwargs: P.kwargs) -> T:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            folder = given.arguments[argument]
            with contextlib.nullcontext() if folder is None else hold(Path(folder)):
                return function(*args, **kwargs)

        return held

    return decorate


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made if it is not there; a folder in which nothing came about goes again.

    Whatever a process that was cut off had not finished writing is removed first. A process may hold a folder several times.
    Processes that torchrun started together have a lock each.

    Raises InputError if another process holds the folder, or if nothing can be written there.
    """
    given, folder = folder, Path(os.path.realpath(folder))
    if str(folder) in _held:
        with kept_within(given):
            yield
        return
    made = _make(folder)
    file = folder / name_of_lock()
    try:
        _held[str(folder)] = _take(file, folder)
        with saying_where(file):
            os.ftruncate(_held[str(folder)], 0)
            os.pwrite(_held[str(folder)], f"process {os.getpid()} on {platform.node()}".encode(), 0)
        if _rank() == "0":
            sweep(folder)
        with kept_within(given):
            yield
    finally:
        if (descriptor := _held.pop(str(folder), FORKED)) != FORKED:
            # While it is locked: who opened it in the meantime looks whether it is still there.
            with contextlib.suppress(OSError):
                file.unlink()
            os.close(descriptor)
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()


def name_of_lock() -> str:
    """The name of this process's lock in a folder."""
    return ".srlvae.lock" if _rank() == "0" else f".srlvae-{_rank()}.lock"


def _rank() -> str:
    return os.environ.get("RANK", "0")


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return what was made for it, the innermost first. Raises InputError that says why it cannot be."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    with _saying_out(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _take(file: Path, folder: Path) -> int:
    """Open and lock a file. Raises InputError if another process has it locked."""
    while True:
        with _saying_out(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o666)
        taken = lock(descriptor)
        if taken is False:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
            os.close(descriptor)
            raise InputError(
                f"{folder} is in use by another run of srlvae{holder and f' ({holder})'}; wait until it has ended, stop it, or "
                "give another folder"
            )
        if taken is None:
            warnings.warn(
                f"{folder} lies on a file system that cannot lock files: let no second run write there at the same time",
                stacklevel=2,
            )
        # Else its holder has removed it on leaving, and somebody may have made another.
        if os.path.lexists(file) and os.path.samestat(os.fstat(descriptor), os.lstat(file)):
            return descriptor
        os.close(descriptor)


@contextlib.contextmanager
def _saying_out(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise InputError(f"cannot write to {folder}: it is a file; give a folder") from error
    except NotADirectoryError as error:
        raise InputError(f"cannot write to {folder}: its parent is a file; give another folder") from error
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror or error}); give another folder") from error


def _forget() -> None:
    """In a process that was forked off: leave the locks to the one that took them, so that they end with it."""
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    # It is still that process's work, so the folders count as held.
    _held.update(dict.fromkeys(_held, FORKED))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
