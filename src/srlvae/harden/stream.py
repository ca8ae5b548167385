"""Photographs as a stream: shards are dealt out to processes, in a new order every epoch, and read one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from srlvae.errors import InputError, UnreadableError
from srlvae.harden.rows import MAX_UNREADABLE, Decode, digest_of
from srlvae.images import open_cell, read_rgb


@dataclass(frozen=True)
class Deal:
    """Which shards a process reads, and in which order.

    The shards of every epoch, in an order of its own, follow those of the one before, without end, and are dealt out in turn.
    So every shard is read once an epoch by one process, none of which waits for others where shards do not divide by processes.
    Fewer shards than processes are cut into as many parts as there are processes: every so many-th row.

    - `seed` chooses the orders; None leaves shards in their own.
    - `rank` is the number of this process, among `processes`.
    - `together` is how many images of a batch are this process's.
    """

    seed: int | None = None
    rank: int = 0
    processes: int = 1
    together: int = 1

    def parts(self, shards: int) -> int:
        """How many parts every shard is cut into."""
        return 1 if shards >= self.processes else self.processes

    def dealt(self, turn: int, shards: int) -> tuple[int, int]:
        """The shard and its part that this process reads at its turn `turn`, counted from 0."""
        parts = self.parts(shards)
        epoch, place = divmod(self.rank + turn * self.processes, shards * parts)
        return divmod(place if self.seed is None else int(_order(self.seed, epoch, shards * parts)[place]), parts)

    def position(self, sample: int) -> int:
        """The position, among the images of this process, of a sample of the run that is this process's."""
        return sample // (self.processes * self.together) * self.together + sample % self.together


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, 2, epoch)).permutation(count)


@dataclass(frozen=True)
class Row:
    """A row that was read: its cell, and what it is called. `error` says why nothing follows it in a broken shard."""

    cell: Any
    name: str
    error: str = ""


class StreamPhotographs:
    """A streamed Hugging Face dataset, for ascending positions in what a `deal` gives to this process.

    A position is reached by reading on. One that lies further back, or in an interrupted run, is reached from the beginning of
    its shard, as far as the numbers of rows of those before it are known. A shard that is broken ends with a row that cannot be
    read.

    - `apart` has the digests of cells that are passed over, wherever they are.
    - `counts` has how many rows every part of a shard was found to have, by its number, without those passed over.
    - `names` are those of the shards, where they are known.
    """

    def __init__(
        self,
        dataset,
        column: str,
        decode: Decode = open_cell,
        deal: Deal | None = None,
        names: Sequence[str] = (),
        apart: frozenset[str] = frozenset(),
        counts: dict[str, int] | None = None,
    ):
        self.dataset, self.column, self.decode, self.deal = dataset, column, decode, deal or Deal()
        self.names, self.apart, self.counts = names, apart, {} if counts is None else counts
        self.shards: int = dataset.num_shards
        self._begin(0)

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("dataset", "column", "decode", "deal", "names", "apart", "counts")}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def dealt(self, deal: Deal, apart: frozenset[str], counts: dict[str, int]) -> StreamPhotographs:
        """The same photographs, but for those set apart, for one process; `counts` grows while it reads."""
        return StreamPhotographs(self.dataset, self.column, self.decode, deal, self.names, apart, counts)

    def __len__(self) -> int:
        return 2**40

    @property
    def length(self) -> int | None:
        """How many rows there are, once all were read."""
        parts = self.shards * self.deal.parts(self.shards)
        return sum(self.counts.values()) if len(self.counts) == parts else None

    def __getitem__(self, index: int) -> Image.Image:
        row = self._row(index)
        if row.error:
            raise UnreadableError(row.name, row.error)
        return read_rgb(lambda: self.decode(row.cell), row.name)

    def name(self, index: int) -> str:
        """What a photograph that was just read is called: its row, and its shard."""
        return self._row(index).name

    def digest(self, index: int) -> str:
        """The SHA-256 of the cell at a position that was just read."""
        return digest_of(self._row(index).cell)

    def _row(self, index: int) -> Row:
        if not self.position - len(self.recent) <= index <= self.position:
            self._begin(index)
        while self.position <= index:
            # They have no end, but where there are none.
            if (row := next(self.rows, None)) is None:
                raise InputError("the streamed dataset has no rows but for those set apart")
            self.recent.append(row)
            self.position += 1
        return self.recent[index - self.position]

    def _begin(self, index: int) -> None:
        """Make ready to read from the beginning of the shard in which position `index` is, or of the last that is known."""
        turn, start = 0, 0
        while (count := self.counts.get(self._part(turn))) is not None and start + count <= index and self.length != 0:
            turn, start = turn + 1, start + count
        # The last rows, as far as a sample that replaces an unreadable one may look ahead.
        self.recent: deque[Row] = deque(maxlen=MAX_UNREADABLE)
        self.position, self.rows = start, self._read(turn)

    def _part(self, turn: int) -> str:
        shard, part = self.deal.dealt(turn, self.shards)
        return str(shard * self.deal.parts(self.shards) + part)

    def _read(self, turn: int) -> Iterator[Row]:
        """The rows of the shards from a turn on, without end."""
        empty = 0
        while empty < self.shards * self.deal.parts(self.shards):
            count = 0
            for row in self._read_part(*self.deal.dealt(turn, self.shards)):
                count += 1
                yield row
            self.counts[self._part(turn)] = count
            empty = 0 if count else empty + 1
            turn += 1

    def _read_part(self, shard: int, part: int) -> Iterator[Row]:
        """The rows of a part of a shard but for those set apart."""
        name, parts = self._shard_name(shard), self.deal.parts(self.shards)
        try:
            for number, row in enumerate(self.dataset.shard(self.shards, shard)):
                cell = row[self.column]
                if number % parts == part and not (self.apart and digest_of(cell) in self.apart):
                    yield Row(cell, f"row {number}{name and f' of {name}'}")
        except Exception as error:  # every reader and every store raises its own kinds
            yield Row(None, name or "the stream", f"a shard that cannot be read to its end ({error})")

    def _shard_name(self, shard: int) -> str:
        if self.shards == 1:
            return ""
        return self.names[shard] if len(self.names) == self.shards else f"shard {shard}"
