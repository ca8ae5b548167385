"""The page of the most suspicious images of a scan. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srlvae.errors import InputError
from srlvae.files import shown
from srlvae.images import open_rgb
from srlvae.report.render import inline_jpeg, write_page
from srlvae.scan import Calibration, Count, Score, count

PAGE = "scan.html"
# Images shown at least and at most, in between all suspicious ones; those shown that are unlike; and the side in pixels.
LEAST, MOST, OTHERS, SIDE = 60, 300, 60, 240


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
    threshold = calibration.threshold
    found = count(scores, threshold)
    like = [score for score in scores if score.value is not None and not score.unlike]
    highest = like[: max(LEAST, min(found.suspicious, MOST))]
    others = [score for score in scores if score.unlike][:OTHERS]
    return write_page(
        out / PAGE,
        "scan",
        found=found,
        folder=shown(folder),
        threshold=f"{threshold:.2f}",
        clean=f"the {calibration.images} in {shown(clean)}",
        rate=f"{calibration.rate:g}",
        expected=f"{calibration.rate * found.like:.1f}",
        images=[_shown(score, folder, threshold) for score in highest],
        others=[_shown(score, folder, threshold) for score in others],
    )


def _shown(score: Score, folder: Path, threshold: float) -> dict[str, Any]:
    data = _thumbnail(folder / score.file if folder.is_dir() else folder)
    said = score.unlike or f"{score.value:.2f}"
    return {"file": shown(score.file), "said": said, "suspicious": score.above(threshold), "data": data}


def _thumbnail(path: Path) -> str:
    try:
        image = open_rgb(path)
    except InputError:  # it went away since it was scored
        return ""
    image.thumbnail((SIDE, SIDE))
    return inline_jpeg(image)
