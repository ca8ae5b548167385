"""Engines: where a scan looks at its pieces, which are shards, or the files of a folder in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from srlvae.events import Listener
from srlvae.scan.look import Encoders

# Looks at a piece and gives out what was seen there. It can be pickled, as the pieces and what is seen can.
LookAt = Callable[[Encoders, Any, Listener], Iterable[Any]]
# Looks at all pieces, and gives out what was seen, in any order of the pieces.
Engine = Callable[[Encoders, Sequence[Any], LookAt, Listener], Iterable[Any]]


def look_here(encoders: Encoders, pieces: Sequence[Any], look_at: LookAt, listener: Listener) -> Iterator[Any]:
    """The engine of one process: a piece after another."""
    for piece in pieces:
        yield from look_at(encoders, piece, listener)
