"""Scans of files: as they are, as they were, and how much of the time is spent in decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from srlvae.images import Images, open_rgb, to_pil, to_tensor
from srlvae.models.vae import VAE
from srlvae.precision import Precision
from srlvae.scan import Encoders
from srlvae.scan.copies import thumbnail
from srlvae.scan.evidence import evidence
from srlvae.scan.likeness import likeness
from srlvae.scan.reading import Pictures, read_ahead
from srlvae.speed.rounds import Work

DECODING, ALONE = "decoding alone", "one by one in float32"
QUALITY = 90


def scan_works(original: VAE, hardened: VAE, x: Images, folder: Path) -> list[Work]:
    """Scans of the images `x`, written to `folder` as JPEGs."""
    paths = [folder / f"{i}.jpg" for i in range(len(x))]
    for path, image in zip(paths, x, strict=True):
        to_pil(image).save(path, quality=QUALITY)

    def batches(precision: Precision) -> Callable[[], None]:
        encoders = Encoders(original, hardened, precision)

        def scan() -> None:
            for found in read_ahead(paths, open_rgb):
                assert isinstance(found, Pictures)
                encoders.look(found.x)

        return scan

    def alone() -> None:
        for path in paths:
            image = to_tensor(open_rgb(path))[None].to(original.device)
            evidence(original, hardened, image)
            likeness(image)
            thumbnail(image[0])

    ways: dict[str, Callable[[], object]] = {"as it is": batches("auto"), "as it is, in float32": batches("no"), ALONE: alone}
    ways[DECODING] = lambda: [to_tensor(open_rgb(path)) for path in paths]
    return [Work(f"scan, {x.shape[-1]} pixels", len(x), ways, ALONE)]
