"""Frozen settings of the experiments, so that two runs of a name can be compared. ε is in [0,1], and written `15/255`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from srlvae.config import budget
from srlvae.models.edit_defaults import GUIDANCE, STEPS, STRENGTH


@dataclass(frozen=True)
class ReconstructionProtocol:
    """Of the benchmarks on reconstruction and on hardening.

    eps: the budgets of every attack. steps: of every attack, their step sizes in the preset's ratio to ε. images: photographs
    attacked, centre squares of `size`; clean_images: photographs of the clean rows, whose Fréchet distance needs many. pairs,
    sets: the networks of the feature distance, and of Fréchet distance and KID.
    """

    attacks: tuple[str, ...]
    eps: tuple[float, ...]
    steps: int = 20
    images: int = 64
    clean_images: int = 512
    size: int = 128
    seed: int = 0
    batch_size: int = 8
    pairs: str = "efficientnet-lite1"
    sets: str = "efficientnet-lite1"


@dataclass(frozen=True)
class ChosenAttack:
    """An attack of `ATTACKS` at its default preset.

    eps: its budgets. steps: 0 for the preset's. white_box: made on the hardened VAE, too.
    """

    name: str
    eps: tuple[float, ...]
    steps: int = 0
    white_box: bool = False


@dataclass(frozen=True)
class ChosenPurifier:
    """A purifier of `PURIFIERS`. source: folder or hub id of the pipeline of diffusers that it needs beside the protocol's.
    settings: in place of the published ones. attacks, eps: only on these; all where empty."""

    name: str
    source: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = ()

    def takes(self, attack: str, eps: float) -> bool:
        return attack == "none" or (attack in (self.attacks or (attack,)) and eps in (self.eps or (eps,)))


@dataclass(frozen=True)
class EditingProtocol:
    """pipeline, hardened, clip: what `load_pipeline`, `load_vae` and `load_clip` take. images: photographs, centre squares of
    the pipeline's size. prompts: dealt to the photographs in turn, `prompts_an_image` to each. strength, steps, guidance: of
    the edits. pairs, sets: the networks of the feature distance, and of Fréchet distance and KID."""

    pipeline: str
    hardened: str
    clip: str
    prompts: tuple[str, ...]
    attacks: tuple[ChosenAttack, ...]
    purifiers: tuple[ChosenPurifier, ...]
    images: int
    prompts_an_image: int = 1
    strength: float = STRENGTH
    steps: int = STEPS
    guidance: float = GUIDANCE
    seed: int = 0
    batch_size: int = 8
    pairs: str = "efficientnet-lite1"
    sets: str = "efficientnet-lite1"


@dataclass(frozen=True)
class Concept:
    """A folder of photographs, and its name in captions, which the judge knows it by."""

    folder: str
    word: str


@dataclass(frozen=True)
class Pair:
    """Poison makes a model show `target` where it is asked for `concept`; both are words of the protocol's concepts."""

    concept: str
    target: str


@dataclass(frozen=True)
class PoisoningProtocol:
    """clip, judge: what `load_clip` and `load_judge` take. concepts: of the clean training images, `clean_each` of each.

    counts: poisons added, beside none, made of up to `sources` photographs, which more poisons repeat. eps: their budgets;
    attack_steps: of Nightshade. white_box: also poison made on the hardened VAE, for itself. dirty_label: also pictures of the
    target, captioned as the concept. steps, batch_size, learning_rate: of fine-tuning. scan_rate: of clean images that
    filtering by scan may lose; where 0, it is not among the defences. generated: images a fine-tuning that are asked for the
    concept; others: for each other concept.
    """

    pipeline: str
    hardened: str
    concepts: tuple[Concept, ...]
    pairs: tuple[Pair, ...]
    counts: tuple[int, ...]
    eps: tuple[float, ...] = (10 / 255,)
    white_box: bool = True
    dirty_label: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)
    purifiers: tuple[ChosenPurifier, ...] = ()
    scan_rate: float = 0.0
    clean_each: int = 10
    sources: int = 60
    attack_steps: int = 80
    steps: int = 150
    batch_size: int = 12
    learning_rate: float = 2e-4
    generated: int = 24
    others: int = 2
    denoising_steps: int = STEPS
    clip: str = "tiny-clip"
    judge: str = "judge"


def as_written(protocol: ReconstructionProtocol | EditingProtocol | PoisoningProtocol) -> dict[str, Any]:
    """The protocol as plain data for a result file, with budgets as they are written in TOML files."""
    return _written(asdict(protocol))


def _written(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _written(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item, key) for item in value]
    return budget(value) if key == "eps" else value
