"""Reading ahead of the encoders: pictures are decoded in threads, and put together where they have the same size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image

from srlvae.errors import UnreadableError
from srlvae.images import Images, to_tensor
from srlvae.scan.evidence import TILE

T = TypeVar("T")
# Images and pixels, at most, that go through the encoders together; threads that decode, and pictures that they are ahead.
TOGETHER, PIXELS, READERS, AHEAD = 16, 2**21, 2, 4
# Pictures of other sizes that wait for more of their size.
WAITING = 64


@dataclass(frozen=True)
class Pictures:
    """Images `b 3 h w` of one size, and their numbers in the order in which they were asked for."""

    numbers: list[int]
    x: Images


@dataclass(frozen=True)
class Skipped:
    """The number of a picture that is not to be looked at."""

    number: int


@dataclass(frozen=True)
class Unreadable:
    """The number of a picture that cannot be read, and why."""

    number: int
    reason: str


def read_ahead(
    sources: Iterable[T], read: Callable[[T], Image.Image | None], together: int = TOGETHER
) -> Iterator[Pictures | Skipped | Unreadable]:
    """Read every source, and give out images of the same size together, up to `together` of them.

    `read` runs in threads and returns 8-bit RGB, or None for what is not to be looked at. It raises UnreadableError for a
    picture that cannot be read. What is put together depends on the order of the sources alone. Few pictures are in memory,
    and of those larger than a tile, which are looked at alone, fewer still.
    """
    waiting: dict[tuple[int, int], list[tuple[int, Image.Image]]] = {}
    for number, picture in enumerate(_decoded(sources, read)):
        try:
            image = picture.result()
        except UnreadableError as error:
            yield Unreadable(number, error.reason)
            continue
        if image is None:
            yield Skipped(number)
            continue
        alike = waiting.setdefault(image.size, [])
        alike.append((number, image))
        if len(alike) == min(together, PIXELS // (image.width * image.height)) or max(image.size) > TILE:
            yield _together(waiting.pop(image.size))
        elif sum(map(len, waiting.values())) >= WAITING:
            yield _together(waiting.pop(max(waiting, key=lambda size: len(waiting[size]))))
    yield from (_together(alike) for alike in waiting.values())


def _together(alike: list[tuple[int, Image.Image]]) -> Pictures:
    return Pictures([number for number, _ in alike], torch.stack([to_tensor(image) for _, image in alike]))


def _decoded(sources: Iterable[T], read: Callable[[T], Image.Image | None]) -> Iterator[Future[Image.Image | None]]:
    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[Future[Image.Image | None]] = deque()
        for source in sources:
            ahead.append(pool.submit(read, source))
            if len(ahead) > AHEAD:
                yield ahead.popleft()
        yield from ahead
