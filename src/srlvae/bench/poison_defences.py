"""What is done to training images against poison: a purifier, or leaving out those that a scan finds suspicious."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.attacked import photograph_set
from srlvae.bench.cache import key_of_image
from srlvae.bench.photographs import Photographs
from srlvae.bench.poisons import Poisons
from srlvae.bench.purifiers import Purifiers
from srlvae.bench.rows import VAE_OF
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.scan import EVIDENCE, Normal, calibrate, check_enough
from srlvae.scan.evidence import evidence

SCAN = "scan"
# How many images the scan sees at a time.
BATCH = 8


class TrainingDefences:
    """The purifiers of a protocol and the scan, applied to training images before a fine-tuning.

    Raises InputError if there are too few photographs to calibrate the scan.
    """

    def __init__(self, poisons: Poisons):
        self.poisons, self.protocol = poisons, poisons.protocol
        self.purifiers = Purifiers(poisons.pipelines["original"])
        self.chosen = {chosen.name: chosen for chosen in self.protocol.purifiers}
        self.scan = ScanFilter({name: pipe.vae for name, pipe in poisons.pipelines.items()}, self.protocol.scan_rate)
        if self.protocol.scan_rate:
            for pair in self.protocol.pairs:
                check_enough(sum(map(len, self._other_photographs(pair.concept))), self.protocol.scan_rate)

    def apply(self, defence: str, concept: str, seed: int, x: Images, captions: list[str]) -> tuple[Tensor, list[str]]:
        """The training images and their captions after the defence.

        The defences `none` and `hardened` change nothing here. The scan is calibrated on photographs of concepts other than
        `concept`.
        """
        if defence in VAE_OF:
            return x, captions
        if defence == SCAN:
            kept = self.scan.kept(x, (part for found in self._other_photographs(concept) for part in found.batches(BATCH)))
            return x[kept], [captions[i] for i in kept]
        given = photograph_set(x)
        # Other processes work on other fine-tunings, so they do not share these images.
        own = replace(self.poisons.cache, shared=False)
        return self.purifiers.images(self.chosen[defence], given, given.keys, seed, own).images, captions

    def settings_of(self, defence: str) -> dict[str, Any]:
        """The settings of a defence, which belong to the key of a fine-tuning."""
        if defence == SCAN:
            return {"evidence": EVIDENCE, "rate": self.protocol.scan_rate}
        chosen = self.chosen.get(defence)
        return self.purifiers.settings_of(chosen) if chosen else {}

    def _other_photographs(self, concept: str) -> list[Photographs]:
        """Photographs of other concepts, which are not trained on."""
        return [self.poisons.spare(word) for word in self.poisons.words if word != concept]


class ScanFilter:
    """Finds the images that the score of `srlvae scan` does not find suspicious.

    The command also looks for images unlike the clean ones and compares each with clean ones that are like it. Here the score
    is compared with all clean images alike.

    - vaes: the VAEs called `original` and `hardened`.
    - rate: the largest share of clean images that the scan may call suspicious.
    """

    def __init__(self, vaes: dict[str, VAE], rate: float):
        self.vaes, self.rate = vaes, rate
        self._seen: dict[str, Tensor] = {}

    def kept(self, x: Images, clean: Iterable[Images]) -> list[int]:
        """The positions of the images that are not suspicious. Batches of photographs, `clean`, say what is normal."""
        normal, threshold = self.normal(clean)
        return (normal.scores(self.evidence(x)) <= threshold).nonzero()[:, 0].tolist()

    def normal(self, clean: Iterable[Images]) -> tuple[Normal, float]:
        """What is normal among the photographs in the batches `clean`, and the score above which an image is suspicious."""
        return calibrate(torch.cat([self.evidence(part) for part in clean]), self.rate)

    def evidence(self, x: Images) -> Tensor:
        """The evidence `n 5` that the scan sees in each image; see `srlvae.scan.evidence`.

        Each image is looked at once, since fine-tunings share their clean images and repeat poisons.
        """
        original, hardened = self.vaes["original"], self.vaes["hardened"]
        keys = [key_of_image(image) for image in x]
        new = {key: image for key, image in zip(keys, x, strict=True) if key not in self._seen}
        for part in [list(new)[i : i + BATCH] for i in range(0, len(new), BATCH)]:
            found = evidence(original, hardened, torch.stack([new[key] for key in part]).to(original.device)).cpu()
            self._seen |= dict(zip(part, found, strict=True))
        return torch.stack([self._seen[key] for key in keys]) if keys else torch.zeros(0, len(EVIDENCE))
