"""Styles in which photographs are rendered, and the judge that tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srlvae.bench.kinds import KINDS, whole_levels
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.judge import fit_probe, soften

# The kinds of picture that show what the photograph shows, each in its own way.
STYLES = ("halftone", "dithered", "pencil sketch", "line drawing", "cartoon", "pixel art")
# What a picture is called that is in no style.
PHOTOGRAPH = "photograph"
# The judge sees pictures at full, half and a third of their resolution, since a generator's pictures are softer than files.
SOFTENED = (1, 2, 3)


@dataclass(frozen=True)
class Style:
    """One hand: a kind of picture in STYLES, all of whose pictures have the parameters that `seed` draws."""

    kind: str
    seed: int = 0

    def render(self, x: Images) -> Images:
        """The photographs `x` in this style, in whole grey levels. An image does not depend on its neighbours."""
        pictures = [image.permute(1, 2, 0).numpy().astype(np.float64) for image in x]
        return torch.stack([whole_levels(KINDS[self.kind](one, np.random.default_rng(self.seed))) for one in pictures])

    def prompt(self, word: str) -> str:
        """The caption of pictures in this style, which is also the prompt that asks for it."""
        return f"a {self.kind} of a {word}"


def renderings(styles: Sequence[Style], x: Images) -> list[Images]:
    """The photographs themselves and in each of the styles: the judge's classes, in its order."""
    return [x, *(style.render(x) for style in styles)]


def classes_of(styles: Sequence[Style]) -> list[str]:
    """The names of the judge's classes, in its order."""
    return [PHOTOGRAPH, *(style.kind for style in styles)]


def fit_style_probe(styles: Sequence[Style], batches: Iterable[Images], features: Features) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear probe on pooled features that tells photographs and the styles apart.

    It is fitted on the photographs of `batches`, and their mirror images, rendered, sharp and softened. It has seen nothing
    that a generator made.
    """
    pooled, labels = list[Tensor](), list[int]()
    with torch.no_grad():
        for x in batches:
            for number, of_class in enumerate(renderings(styles, torch.cat([x, x.flip(-1)]))):
                pooled += [features.pooled(soften(of_class, factor)) for factor in SOFTENED]
                labels += [number] * len(of_class) * len(SOFTENED)
    return fit_probe(torch.cat(pooled), torch.tensor(labels), 1 + len(styles))
