"""The boundary around decoders: whatever a file makes them raise is an error of that file, and memory is looked at before."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator

from PIL import Image

from srlvae.errors import InputError, UnreadableError
from srlvae.files import shown
from srlvae.memory import free_memory, gigabytes

# Bytes that reading a picture takes for each of its pixels: decoded, turned, in sRGB and as a float32 tensor.
READING = 24
# Letters of a reason.
LONGEST = 300
# What no file is at fault for.
NO_FAULT = (KeyboardInterrupt, SystemExit, GeneratorExit)


class TooLargeError(ValueError):
    """A picture has more pixels than memory has room for."""


@contextlib.contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Make UnreadableError, which names the file `name`, of whatever is raised within, and of bombs that Pillow warns of."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableError(name, f"refused as too large ({error}); --max-pixels lets larger ones in") from error
    except (TooLargeError, MemoryError) as error:
        raise UnreadableError(name, f"refused as too large ({reason_of(error)}); give a smaller copy") from error
    except BaseException as error:  # decoders raise anything: struct.error, KeyError, panics of Rust, which are no Exception
        if isinstance(error, NO_FAULT):
            raise
        raise UnreadableError(name, f"not a readable image ({reason_of(error)})") from error


def check_room(image: Image.Image, room: int) -> None:
    """Raise TooLargeError where memory has not `room` bytes for each pixel. Small files may declare many, so look before."""
    needed, free = math.prod(image.size) * room, free_memory()
    if needed > free:
        raise TooLargeError(
            f"{image.width} x {image.height} pixels take about {gigabytes(needed)}, and {gigabytes(free)} of memory are free"
        )


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line of a bearable length, whatever a file made its decoder say."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "memory ran out"
    known = isinstance(error, InputError | OSError | SyntaxError | ValueError) and str(error)
    said = shown(" ".join((str(error) if known else f"{type(error).__name__}: {error}").splitlines()))
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
