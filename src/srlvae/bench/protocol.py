"""Frozen settings of the experiments, so that two runs of a name can be compared."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srlvae.attacks import ATTACKS
from srlvae.config import read_toml
from srlvae.errors import InputError
from srlvae.metrics.features import FEATURES
from srlvae.models.edit_defaults import GUIDANCE, STEPS, STRENGTH
from srlvae.purify import PURIFIERS

# What purifiers may need that a benchmark's own pipeline has.
OWN = ("nothing", "vae", "pipeline")

FOLDER = Path(__file__).parent / "protocols"


@dataclass(frozen=True)
class Cell:
    """A set of images: an attack at ε = eps/255 made on the original or the hardened VAE. made_on blank: clean or noise."""

    attack: str
    eps: int
    made_on: str


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


@dataclass(frozen=True)
class AttackPlan:
    """An attack of `ATTACKS` at its default preset. eps: in 255ths. steps: 0 for the preset's. white_box: made on the hardened
    VAE, too."""

    name: str
    eps: tuple[int, ...]
    steps: int = 0
    white_box: bool = False


@dataclass(frozen=True)
class PurifierPlan:
    """A purifier of `PURIFIERS`. source: folder or hub id of the pipeline of diffusers that it needs beside the protocol's.
    settings: in place of the published ones. attacks, eps: only on these; all where empty."""

    name: str
    source: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    eps: tuple[int, ...] = ()

    def takes(self, attack: str, eps: int) -> bool:
        return attack == "none" or (attack in (self.attacks or (attack,)) and eps in (self.eps or (eps,)))


@dataclass(frozen=True)
class EditingProtocol:
    """pipeline, hardened, clip: what `load_pipeline`, `load_vae` and `load_clip` take. images: photographs, centre squares of
    the pipeline's size. prompts: dealt to the photographs in turn, `prompts_an_image` to each. strength, steps, guidance: of
    the edits. features: the networks that judge."""

    pipeline: str
    hardened: str
    clip: str
    prompts: tuple[str, ...]
    attacks: tuple[AttackPlan, ...]
    purifiers: tuple[PurifierPlan, ...]
    images: int
    prompts_an_image: int = 1
    strength: float = STRENGTH
    steps: int = STEPS
    guidance: float = GUIDANCE
    seed: int = 0
    batch_size: int = 8
    features: tuple[str, ...] = ("efficientnet-lite0", "efficientnet-lite1")


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
    counts: poisons added, beside none, made of up to `sources` photographs, which more poisons repeat. eps: of the poisons, in
    255ths; attack_steps: of Nightshade. kinds: `transfer` (made on the original VAE), `white-box` (on the hardened one, seen by
    it) and `dirty-label` (pictures of the target, captioned as
    the concept). steps, batch_size, learning_rate: of fine-tuning. scan_rate: of clean images that filtering by scan may lose;
    where 0, it is not among the defences. generated: images a point that are asked for the concept; others: for each other
    concept."""

    pipeline: str
    hardened: str
    concepts: tuple[Concept, ...]
    pairs: tuple[Pair, ...]
    counts: tuple[int, ...]
    eps: tuple[int, ...] = (10,)
    kinds: tuple[str, ...] = ("transfer", "white-box", "dirty-label")
    seeds: tuple[int, ...] = (0, 1, 2)
    purifiers: tuple[PurifierPlan, ...] = ()
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


def editing_protocol(name: str) -> EditingProtocol:
    """The protocol called `name`, or in the TOML file of that path. Raises InputError, before anything is run."""
    protocol = read_toml(_find("editing", name), EditingProtocol)
    _not_empty(name, prompts=protocol.prompts, attacks=protocol.attacks, features=protocol.features)
    _known(name, "attack", [plan.name for plan in protocol.attacks], ATTACKS)
    _known(name, "feature network", protocol.features, FEATURES)
    for plan in protocol.attacks:
        _not_empty(f"{name}: {plan.name}", eps=plan.eps)
    _check_purifiers(name, protocol.purifiers)
    return protocol


def poisoning_protocol(name: str) -> PoisoningProtocol:
    """As `editing_protocol`."""
    protocol = read_toml(_find("poisoning", name), PoisoningProtocol)
    _not_empty(name, concepts=protocol.concepts, pairs=protocol.pairs, eps=protocol.eps, seeds=protocol.seeds)
    _not_empty(name, counts=[count for count in protocol.counts if count])
    if len(protocol.concepts) < 3 or protocol.others < 1:
        raise InputError(f"{name}: what poison does to other concepts needs a third concept, and `others` of 1 or more")
    _known(name, "kind", protocol.kinds, ("transfer", "white-box", "dirty-label"))
    _check_purifiers(name, protocol.purifiers)
    if own := [plan.name for plan in protocol.purifiers if PURIFIERS[plan.name].needs not in OWN]:
        raise InputError(f"{name}: {own[0]} needs a pipeline of its own, which this benchmark does not load")
    return protocol


def _not_empty(where: str, **lists: Sequence[Any]) -> None:
    for key, values in lists.items():
        if not values:
            raise InputError(f"{where}: {key} must not be empty")


def _known(where: str, what: str, names: Sequence[str], known: Any) -> None:
    """Each of them once, since rows are told apart by it."""
    for i, name in enumerate(names):
        if name not in known:
            raise InputError(f"{where}: unknown {what} {name!r}; choose of {', '.join(known)}")
        if name in names[:i]:
            raise InputError(f"{where}: {what} {name!r} is there twice; give its budgets in one list, or use another file")


def _check_purifiers(where: str, plans: Sequence[PurifierPlan]) -> None:
    _known(where, "purifier", [plan.name for plan in plans], PURIFIERS)
    for plan in plans:
        purifier = PURIFIERS[plan.name]
        if purifier.needs not in OWN and not plan.source:
            raise InputError(f"{where}: {plan.name} needs `source`, the folder or hub id of a pipeline")
        settings = set(inspect.signature(purifier.run).parameters) - {"x", "generators", purifier.needs.replace("-", "_")}
        if unknown := sorted(set(plan.settings) - settings):
            raise InputError(
                f"{where}: {plan.name} has no setting {unknown[0]!r}; it has {', '.join(sorted(settings)) or 'none'}"
            )


def _find(kind: str, name: str) -> Path:
    known = {path.stem: path for path in sorted((FOLDER / kind).glob("*.toml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise InputError(f"no protocol {name!r}; choose one of {', '.join(known)}, or give a TOML file")
    return path
