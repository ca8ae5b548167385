"""The boundary around decoders: whatever a file makes them raise is an error of that file, and memory is looked at before."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from srlvae.errors import InputError, UnreadableError
from srlvae.files import digest, shown
from srlvae.memory import free_memory, gigabytes
from srlvae.opened import open_file

# Bytes that reading a picture takes for each of its pixels: decoded, turned, in sRGB and as a float32 tensor.
READING = 24
# Bytes of a file that memory always has room for.
SMALL = 2**25
# Letters of a reason.
LONGEST = 300
# What no file is at fault for.
NO_FAULT = (KeyboardInterrupt, SystemExit, GeneratorExit)


class TooLargeError(ValueError):
    """A picture has more pixels than memory has room for."""


class _Quiet:
    """Ignores Pillow's warnings while anything is read, in whatever threads.

    `catch_warnings` alone is not safe in threads: of two that overlap, the later one brings the filters of the earlier back.
    """

    def __init__(self):
        self.lock, self.readers, self.caught = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if self.readers == 0:
                self.caught = warnings.catch_warnings()
                self.caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pillow_")
            self.readers += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.readers -= 1
            if self.readers == 0:
                self.caught.__exit__(None, None, None)


QUIET = _Quiet()


@contextlib.contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Make UnreadableError, which names the file `name`, of whatever is raised within."""
    try:
        with QUIET:
            yield
    except Image.DecompressionBombError as error:
        raise UnreadableError(name, f"refused as too large ({error}); --max-pixels lets larger ones in") from error
    except (TooLargeError, MemoryError) as error:
        raise UnreadableError(name, f"refused as too large ({reason_of(error)}); give a smaller copy") from error
    except BaseException as error:  # decoders raise anything: struct.error, KeyError, panics of Rust, which are no Exception
        if isinstance(error, NO_FAULT):
            raise
        raise UnreadableError(name, f"not a readable image ({reason_of(error)})") from error


def check_pixels(image: Image.Image) -> None:
    """Raise DecompressionBombError for a picture of more pixels than Pillow's limit, of which Pillow itself only warns."""
    if Image.MAX_IMAGE_PIXELS and (pixels := math.prod(image.size)) > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{pixels:,} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")


def check_room(image: Image.Image, room: int) -> None:
    """Raise TooLargeError where memory has not `room` bytes for each pixel. Small files may declare many, so look before."""
    needed, free = math.prod(image.size) * room, free_memory()
    if needed > free:
        raise TooLargeError(
            f"{image.width} x {image.height} pixels take about {gigabytes(needed)}, and {gigabytes(free)} of memory are free"
        )


def check_length(path: Path) -> None:
    """Raise TooLargeError for a file that memory has no room for. Files with holes take no room on a disk, so look before."""
    # Of small files nothing is asked: the answer takes longer than reading them.
    if (length := path.stat().st_size) > SMALL and length > free_memory():
        raise TooLargeError(f"it has {gigabytes(length)}, and {gigabytes(free_memory())} of memory are free")


def read_content(path: Path) -> bytes:
    """The bytes of a picture's file. Raises UnreadableError as `digest_of_picture` does."""
    with errors_of(str(path)):
        check_length(path)
        with open_file(path) as file:
            return file.read()


def digest_of_picture(path: Path) -> str:
    """The SHA-256 of a picture's file. Raises UnreadableError as reading it does, where it cannot be opened or is too large."""
    with errors_of(str(path)):
        check_length(path)
        return digest(path)


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line of a bearable length, whatever a file made its decoder say."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "memory ran out"
    known = isinstance(error, InputError | OSError | SyntaxError | ValueError) and str(error)
    said = shown(" ".join((str(error) if known else f"{type(error).__name__}: {error}").splitlines()))
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
