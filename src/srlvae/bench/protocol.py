"""Frozen settings of the experiments, so that two runs of a name can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReconstructionProtocol:
    """eps: in 255ths. steps: of every attack, each of 2.5 · eps / steps (Madry et al. 2018).

    images: photographs attacked; clean_images: photographs of the clean row, whose Fréchet distance needs many. features: the
    networks that judge.
    """

    attacks: tuple[str, ...] = ("reconstruction", "latent", "photoguard-encoder")
    eps: tuple[int, ...] = (2, 4, 8, 12, 15, 16)
    steps: int = 20
    images: int = 64
    clean_images: int = 512
    size: int = 128
    seed: int = 0
    batch_size: int = 8
    features: tuple[str, ...] = ("efficientnet-lite0", "efficientnet-lite1")


RECONSTRUCTION: dict[str, ReconstructionProtocol] = {
    "quick": ReconstructionProtocol(eps=(8, 15), steps=10, images=8, clean_images=8),
    "full": ReconstructionProtocol(),
}
