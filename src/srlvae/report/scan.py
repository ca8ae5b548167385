"""The page of the most suspicious images of a scan. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path

from srlvae.errors import InputError
from srlvae.images import open_rgb
from srlvae.report.render import inline_jpeg, write_page
from srlvae.scan import Score

PAGE = "scan.html"
# The page shows all suspicious images, but at least and at most so many images. The last is their side in pixels.
MIN_IMAGES, MAX_IMAGES, THUMBNAIL_SIDE = 60, 300, 240


def write_scan_page(out: Path, folder: Path, scores: list[Score], threshold: float, clean: str, rate: float) -> Path:
    """Write the page of a scan to the folder `out`, and return its path.

    - folder: the folder, or the single image, that was scanned.
    - scores: the scores of all files, the most suspicious first.
    - threshold: the score above which an image is suspicious.
    - clean: where the threshold comes from, in words.
    - rate: the probability at which a clean image is above the threshold.
    """
    readable = [score for score in scores if score.value is not None]
    suspicious = sum(score.above(threshold) for score in scores)
    images = [
        {
            "file": score.file,
            "score": f"{score.value:.2f}",
            "suspicious": score.above(threshold),
            "data": _thumbnail(folder / score.file if folder.is_dir() else folder),
        }
        for score in readable[: max(MIN_IMAGES, min(suspicious, MAX_IMAGES))]
    ]
    return write_page(
        out / PAGE,
        "scan",
        suspicious=suspicious,
        total=len(readable),
        unreadable=len(scores) - len(readable),
        folder=str(folder),
        threshold=f"{threshold:.2f}",
        clean=clean,
        rate=f"{rate:g}",
        expected=f"{rate * len(readable):.1f}",
        images=images,
    )


def _thumbnail(path: Path) -> str:
    try:
        image = open_rgb(path)
    except InputError:  # the file was removed after it was scored
        return ""
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return inline_jpeg(image)
