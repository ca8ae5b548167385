"""A scan of shards: each is looked at as a whole, and leaves one table. Memory does not grow with their number."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from srlvae.errors import InputError, UnreadableError
from srlvae.events import Listener
from srlvae.images import LeftOut, find_images, open_cell, read_rgb
from srlvae.images.shards import Sample, check_one_kind, find_shards, read_samples, version_of
from srlvae.locks import holds
from srlvae.runs import claim
from srlvae.scan.calibration import Calibration
from srlvae.scan.engines import Engine, look_here
from srlvae.scan.folder import FileEvidence, hear_of_all
from srlvae.scan.highest import Highest
from srlvae.scan.look import Encoders
from srlvae.scan.places import RECORD, whole_name
from srlvae.scan.reading import Pictures, Unreadable, read_ahead
from srlvae.scan.shard_tables import SCORES, is_seen, read_seen, remove_other_scores, write_scores, write_seen
from srlvae.scan.verdicts import Count, count, in_order, scores_of
from srlvae.training.processes import meet, processes


@dataclass(frozen=True)
class ShardSeen:
    """What was seen in a shard, or why it cannot be read."""

    shard: str
    version: str
    seen: list[FileEvidence]
    error: str = ""


@dataclass(frozen=True)
class ShardsFound:
    """What was found in all shards: the verdicts counted, and the pictures that a page shows."""

    counted: Count
    highest: Highest


NOTHING = Count(0, 0, 0, 0, {})


def shards_in(source: str) -> list[str]:
    """The shards that `source` stands for, or none if it is a folder of pictures."""
    shards = find_shards(source)
    if shards and Path(source).is_dir():
        try:
            find_images(Path(source))
        except InputError:  # there are none
            return shards
        check_one_kind(Path(source), shards)
        return []
    return shards


def look_at_shard(encoders: Encoders, shard: str, listener: Listener, column: str | None = None) -> Iterator[ShardSeen]:
    """Look at every picture of a shard. If the shard itself is broken, nothing of it counts."""
    names: list[str] = []
    found: dict[int, FileEvidence] = {}

    def samples() -> Iterator[Sample]:
        for sample in read_samples(shard, column):
            names.append(sample.name)
            yield sample

    def picture_of(sample: Sample) -> Image.Image:
        return encoders.check_size(sample.name, read_rgb(lambda: open_cell(sample.data), sample.name))

    try:
        version = version_of(shard)
        for read in read_ahead(samples(), picture_of):
            if isinstance(read, Unreadable):
                found[read.number] = FileEvidence(names[read.number], "", None, read.reason)
            if isinstance(read, Pictures):
                for number, look in zip(read.numbers, encoders.look(read.x, listener), strict=True):
                    found[number] = FileEvidence(names[number], "", look)
            listener.at("images", len(found))
    except UnreadableError as error:
        yield ShardSeen(shard, "", [], error.reason)
    else:
        yield ShardSeen(shard, version, [found[number] for number in sorted(found)])


@holds("out")
def scan_shards(
    encoders: Encoders,
    source: str,
    out: Path,
    calibration: Calibration,
    listener: Listener | None = None,
    engine: Engine = look_here,
    column: str | None = None,
) -> ShardsFound:
    """Scan the pictures in the shards that `source` stands for, count the verdicts, and keep the highest scores.

    Each shard leaves a table of what was seen in `out`/evidence, and one of verdicts in `out`/scan.parquet. Shards whose table
    is there are not looked at again, so an interrupted scan goes on; one that was replaced is. A shard that is broken is told
    to the listener and listed in `out`; a picture that is broken has its reason in the table.

    engine: what looks at shards, by default this process. column: that of the pictures in .parquet shards, by default guessed.

    Raises InputError if `out` holds the tables of other encoders or of another source.
    """
    claim(out, RECORD, {**encoders.identity, "folder": whole_name(source), "column": column})
    left_out = LeftOut(listener)
    try:
        shards = _look(encoders, shards_in(source), out, left_out, engine, column)
        return _score(out, shards if processes().is_main_process else [], calibration, left_out)
    finally:
        if processes().is_main_process:
            left_out.write(out)


def _look(encoders: Encoders, shards: list[str], out: Path, left_out: LeftOut, engine: Engine, column: str | None) -> list[str]:
    """Look at this process's share of the shards. Returns those that have a table, of all processes."""
    state, listener = processes(), left_out.listener
    share = shards[state.process_index :: state.num_processes]
    todo = [shard for shard in share if not is_seen(out, shard)]
    look_at = functools.partial(look_at_shard, column=column)
    for done, one in enumerate(engine(encoders, todo, look_at, listener), len(share) - len(todo) + 1):
        if one.error:
            left_out.add(one.shard, one.error)
        else:
            write_seen(out, one.shard, one.version, one.seen)
        listener.at("shards", done, len(share))
    meet("looking at the shards")
    hear_of_all(left_out)
    return [shard for shard in shards if is_seen(out, shard)]


def _score(out: Path, shards: list[str], calibration: Calibration, left_out: LeftOut) -> ShardsFound:
    """Write the verdicts on every shard, in place of all that were there. What could not be read in one is left out."""
    counted, highest = NOTHING, Highest()
    for shard in shards:
        scores = scores_of(read_seen(out, shard), calibration)
        write_scores(out, shard, in_order(scores), calibration.threshold)
        highest.add(shard, scores)
        own = count(scores, calibration.threshold)
        if own.unreadable:
            left_out.add(shard, f"{own.unreadable} of its pictures, which cannot be read; {SCORES} says why", whole=False)
        counted += own
    if processes().is_main_process:
        remove_other_scores(out, shards)
    return ShardsFound(counted, highest)
