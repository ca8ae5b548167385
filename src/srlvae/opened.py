"""Opening files that anyone may have put there: a pipe never ends, and a link may lead to a file that is nobody's business."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srlvae.errors import InputError
from srlvae.links import check_within

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Bytes of the longest text that is read as a whole: records of a million photographs have less.
MOST_TEXT = 2**30
# Letters of the longest line of a table, with what a power cut may have left in it.
MOST_LINE = 2**24
# A pipe is opened at once, and seen to be one, in place of waiting for its other end.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: Path | str) -> io.BufferedReader:
    """Open a file to read its bytes. Raises OSError, also for what is no file, such as a pipe, a device or a folder."""
    return open(_descriptor(path, os.O_RDONLY), "rb")


def check_file(path: Path | str) -> None:
    """Raise OSError for what is no file, before a library opens it that would wait for the other end of a pipe."""
    os.close(_descriptor(path, os.O_RDONLY))


def read_text(path: Path | str) -> str:
    """Read a file of text in UTF-8, with or without the byte order mark that some editors write.

    Raises OSError as `open_file` does and for one that is too long, or ValueError.
    """
    with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_TEXT:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than any that is read here has", str(path))
        return file.read()


def open_table(path: Path, **options: Any) -> io.TextIOWrapper:
    """Open a table that a run here wrote. Raises InputError that names it where it is no file, or leads out of the folder."""
    check_within(path)
    try:
        return io.TextIOWrapper(open_file(path), newline="", **options)
    except OSError as error:
        raise InputError(f"{path} is no table that a run here wrote ({error.strerror}); take it away") from error


def lines_of(file: io.TextIOBase) -> Iterator[str]:
    """The lines of a table, up to one that is longer than any: a file of holes is a line of terabytes."""
    for line in iter(lambda: file.readline(MOST_LINE), ""):
        if len(line) == MOST_LINE:
            return
        yield line


def open_own(path: Path, **options: Any) -> io.TextIOWrapper:
    """Open a text file to add to it, made if it is not there. Raises OSError as `open_file` does, and for a link."""
    descriptor = _descriptor(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_FOLLOW)
    try:
        _cut(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "a", **options)


def _descriptor(path: Path | str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _AT_ONCE, 0o666)
    except OSError as error:
        if flags & NO_FOLLOW and os.path.islink(path):
            raise OSError(error.errno, "it is a link, and may lead anywhere", str(path)) from error
        raise
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(code, "a folder and no file" if stat.S_ISDIR(kind) else "a device or a pipe and no file", str(path))
    return descriptor


def _cut(descriptor: int, block: int = 2**16) -> None:
    """Cut off what stands behind the last end of a line: half a line of a run that was cut off."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        if size - end > MOST_LINE:
            raise OSError(errno.EFBIG, "its last line is longer than any that is written here")
        start = max(0, end - block)
        os.lseek(descriptor, start, os.SEEK_SET)
        if (found := os.read(descriptor, end - start).rfind(b"\n")) >= 0:
            end = start + found + 1
            break
        end = start
    os.ftruncate(descriptor, end)
