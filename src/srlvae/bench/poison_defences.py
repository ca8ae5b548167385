"""What is done to training images against poison: a purifier, or leaving out what a scan finds suspicious."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.attacked import photograph_set
from srlvae.bench.cache import key_of_image
from srlvae.bench.poisons import Poisons
from srlvae.bench.purifiers import Purifiers
from srlvae.bench.rows import VAE_OF
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.purify import PURIFIERS
from srlvae.scan import EVIDENCE, Normal, calibrate, check_enough
from srlvae.scan.evidence import evidence

SCAN = "scan"
# Images looked at together.
BATCH = 8


class TrainingDefences:
    """The purifiers of a protocol and the scan, before a fine-tuning. Raises InputError for too few photographs to scan by."""

    def __init__(self, poisons: Poisons):
        self.poisons, self.protocol = poisons, poisons.protocol
        self.purifiers = Purifiers(poisons.pipelines["original"])
        self.chosen = {chosen.name: chosen for chosen in self.protocol.purifiers}
        self.scan = ScanFilter({name: pipe.vae for name, pipe in poisons.pipelines.items()}, self.protocol.scan_rate)
        if self.protocol.scan_rate:
            for pair in self.protocol.pairs:
                check_enough(len(self._other_photographs(pair.concept)), self.protocol.scan_rate)

    def apply(self, defence: str, concept: str, seed: int, x: Images, captions: list[str]) -> tuple[Tensor, list[str]]:
        """The training images and captions as the defence leaves them. `none` and `hardened` leave them as they are; the scan
        is calibrated on photographs of other concepts than `concept`."""
        if defence in VAE_OF:
            return x, captions
        if defence == SCAN:
            kept = self.scan.kept(x, self._other_photographs(concept))
            return x[kept], [captions[i] for i in kept]
        given = photograph_set(x)
        # Processes are at other fine-tunings.
        own = replace(self.poisons.cache, shared=False)
        return self.purifiers.images(self.chosen[defence], given, given.keys, seed, own).images, captions

    def settings_of(self, defence: str) -> dict[str, Any]:
        """What a fine-tuning depends on besides the name of its defence."""
        if defence == SCAN:
            return {"evidence": EVIDENCE}
        chosen = self.chosen.get(defence)
        return {**PURIFIERS[chosen.name].settings, **chosen.settings} if chosen else {}

    def _other_photographs(self, concept: str) -> Images:
        """Photographs of other concepts, which are not trained on."""
        return torch.cat([self.poisons.spare(word) for word in self.poisons.words if word != concept])


class ScanFilter:
    """Leaves out images that `srlvae scan` finds suspicious. vaes: `original` and `hardened`. rate: of clean images lost."""

    def __init__(self, vaes: dict[str, VAE], rate: float):
        self.vaes, self.rate = vaes, rate
        self._seen: dict[str, Tensor] = {}

    def kept(self, x: Images, clean: Tensor) -> list[int]:
        """Numbers of the images that are not suspicious, by what is normal in the photographs `clean`."""
        normal, threshold = self.normal(clean)
        return (normal.scores(self.evidence(x)) <= threshold).nonzero()[:, 0].tolist()

    def normal(self, clean: Images) -> tuple[Normal, float]:
        """What is normal, and the threshold."""
        return calibrate(self.evidence(clean), self.rate)

    def evidence(self, x: Images) -> Tensor:
        """What scan sees in each image, looked at once: fine-tunings share their clean images, and poisons are repeated."""
        original, hardened = self.vaes["original"], self.vaes["hardened"]
        keys = [key_of_image(image) for image in x]
        new = {key: image for key, image in zip(keys, x, strict=True) if key not in self._seen}
        for part in [list(new)[i : i + BATCH] for i in range(0, len(new), BATCH)]:
            found = evidence(original, hardened, torch.stack([new[key] for key in part]).to(original.device)).cpu()
            self._seen |= dict(zip(part, found, strict=True))
        return torch.stack([self._seen[key] for key in keys]) if keys else torch.zeros(0, len(EVIDENCE))
