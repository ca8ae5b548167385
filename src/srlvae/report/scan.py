"""The page of the most suspicious images of a scan, of files or of shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from srlvae.errors import InputError
from srlvae.files import shown
from srlvae.images import open_cell, open_rgb, read_rgb
from srlvae.images.shards import read_samples
from srlvae.report.render import inline_jpeg, write_page
from srlvae.scan import Calibration, Count, Score, count
from srlvae.scan.highest import LEAST, MOST, OTHERS, Placed
from srlvae.scan.shard_tables import SCORES, as_text
from srlvae.scan.shards import ShardsFound
from srlvae.scan.verdicts import VERDICTS

PAGE = "scan.html"
# Side of the pictures on it, in pixels.
SIDE = 240


def scan_lines(found: Count, calibration: Calibration) -> list[str]:
    """What a scan found, for the terminal."""
    rate = calibration.rate
    lines = [
        f"{found.suspicious} of {found.like} images are suspicious, with scores above {calibration.threshold:.3f}",
        f"if all {found.like} were clean, about {rate * found.like:.1f} would be by chance",
    ]
    if found.unlike:
        lines.append(f"{found.unlike} more {_are(found.unlike)} unlike the clean images, and may be perturbed or not:")
        lines += [f"  {number}: {reason}" for reason, number in found.reasons.items()]
    if calibration.copies:
        lines.append(f"copies among the clean images, which were not counted: {calibration.copies}")
    if found.unreadable:
        lines.append(f"{found.unreadable} could not be read; the table says why")
    return lines


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def write_scan_page(out: Path, folder: Path, scores: list[Score], calibration: Calibration, clean: str) -> Path:
    """Write the page of the most suspicious images and of some that are unlike the clean ones.

    scores: the most suspicious first. clean: what the folder of clean images is called.
    """
    found = count(scores, calibration.threshold)
    like = [score for score in scores if score.value is not None and not score.unlike]
    images, others = (
        [(score, score.file, _of_file(folder / score.file if folder.is_dir() else folder)) for score in chosen]
        for chosen in (like[: max(LEAST, min(found.suspicious, MOST))], [score for score in scores if score.unlike][:OTHERS])
    )
    return _write(out, shown(folder), VERDICTS, found, (images, others), calibration, clean)


def write_shards_page(
    out: Path, source: str, found: ShardsFound, calibration: Calibration, clean: str, column: str | None = None
) -> Path:
    """Write the page for shards: as for a folder, with pictures from the shards, which are read again up to the last of them.

    clean: what the folder of clean images is called. column: that of the pictures in .parquet shards, by default guessed.
    """
    chosen = found.highest.shown(found.counted.suspicious), found.highest.others
    pictures = dict(_of_shards([*chosen[0], *chosen[1]], column))
    images, others = (
        [(one.score, f"{one.shard}: {one.score.file}", pictures.get((one.shard, one.number), "")) for one in placed]
        for placed in chosen
    )
    return _write(out, shown(source), SCORES, found.counted, (images, others), calibration, clean)


def _write(
    out: Path,
    source: str,
    table: str,
    found: Count,
    chosen: Sequence[list[tuple[Score, str, str]]],
    calibration: Calibration,
    clean: str,
) -> Path:
    """Write the page. chosen: of the highest scores, and of those that are unlike, the names and the pictures as data URLs."""
    threshold = calibration.threshold
    images, others = (
        [
            {"file": shown(name), "said": _said(score), "suspicious": score.above(threshold), "data": data}
            for score, name, data in some
        ]
        for some in chosen
    )
    about: dict[str, Any] = {"found": found, "folder": source, "table": table, "images": images, "others": others}
    about |= {"threshold": f"{threshold:.2f}", "clean": f"the {calibration.images} in {shown(clean)}"}
    about |= {"rate": f"{calibration.rate:g}", "expected": f"{calibration.rate * found.like:.1f}"}
    return write_page(out / PAGE, "scan", **about)


def _said(score: Score) -> str:
    return score.unlike or f"{score.value:.2f}"


def _of_file(path: Path) -> str:
    try:
        return _small(open_rgb(path))
    except InputError:  # it went away since it was scored
        return ""


def _of_shards(placed: Sequence[Placed], column: str | None) -> Iterator[tuple[tuple[str, int], str]]:
    """Pictures of shards by shard and number; none of a shard that was replaced since it was scored, or cannot be read."""
    for shard, group in itertools.groupby(sorted(placed, key=lambda one: (one.shard, one.number)), lambda one: one.shard):
        wanted = {one.number: one.score.file for one in group}
        try:
            for number, sample in enumerate(itertools.islice(read_samples(shard, column), max(wanted) + 1)):
                if as_text(sample.name) == wanted.get(number):
                    yield (shard, number), _small(read_rgb(lambda data=sample.data: open_cell(data), sample.name))
        except InputError:
            continue


def _small(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    return inline_jpeg(image)
