"""Frozen settings of the benchmarks, so that two runs of one name can be compared.

Budgets ε are in [0,1] units, and written `15/255` in TOML files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from srlvae.config import budget
from srlvae.models.edit_settings import GUIDANCE, STEPS, STRENGTH

if TYPE_CHECKING:
    from srlvae.bench.mimicry_protocol import MimicryProtocol


@dataclass(frozen=True)
class ReconstructionProtocol:
    """The settings of the reconstruction benchmark and of the hardening benchmark.

    - attacks: the names of the attacks, at their default presets.
    - eps: the budgets of every attack.
    - steps: the steps of every attack. Step sizes keep the preset's ratio to ε.
    - images: how many photographs are attacked.
    - clean_images: how many photographs the clean rows have. Their Fréchet distance needs many.
    - size: the side of the centre squares in pixels.
    - seed: the seed of the choice of photographs, of the attacks and of the intervals.
    - batch_size: how many images are attacked or measured at a time.
    - pairs: the network of the feature distance.
    - sets: the network of Fréchet distance and KID.
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
    """An attack of the editing benchmark.

    - name: its name in `ATTACKS`.
    - eps: its budgets.
    - steps: its steps; 0 means those of the preset.
    - white_box: whether it is made on the hardened VAE, too.
    - preset: a published setting; blank for the default one. An attack may be listed once with each of its presets.
    - also_on: what else it is made on: `both` VAEs at once, or the `twin`.
    - parts: whether parts of its perturbations are measured, too; see `PARTS` of `bench.cells`.
    - through: the purifiers of the protocol that it is also made through, by an attacker who knows them.
    - sweep: further numbers of steps at which it is measured, for a curve.
    - starts: further numbers of random starts at which it is measured, with the protocol's steps.
    """

    name: str
    eps: tuple[float, ...]
    steps: int = 0
    white_box: bool = False
    preset: str = ""
    also_on: tuple[str, ...] = ()
    parts: bool = False
    through: tuple[str, ...] = ()
    sweep: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """The name with the preset, such as `square:zero`."""
        return f"{self.name}:{self.preset}" if self.preset else self.name


@dataclass(frozen=True)
class ChosenPurifier:
    """A purifier that a benchmark compares with hardening.

    - name: its name in `PURIFIERS`.
    - source: the folder or hub id of a diffusers pipeline, for purifiers that need one besides the protocol's.
    - settings: settings that replace the published ones.
    - attacks, eps: the attacks and budgets that it is tried on. All of them if empty.
    - hardened: whether it is also tried before the hardened VAE, in the editing benchmark.
    - draws: how many times an attack that goes through it draws it at a step; more than 1 for a purifier that draws.
    """

    name: str
    source: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = ()
    hardened: bool = False
    draws: int = 1

    def takes(self, attack: str, eps: float) -> bool:
        """Whether the purifier is tried on this attack and budget. Clean photographs (`none`) are always taken."""
        return attack == "none" or (attack in (self.attacks or (attack,)) and eps in (self.eps or (eps,)))


@dataclass(frozen=True)
class EditingProtocol:
    """The settings of the editing benchmark.

    - pipeline, hardened, clip: the models, as `load_pipeline`, `load_vae` and `load_clip` take them.
    - twin: a VAE that was hardened as `hardened` was, with another seed; blank for none.
    - prompts: the prompts, which are dealt to the photographs in turn.
    - attacks, purifiers: what is tried.
    - images: how many photographs there are. They are centre squares.
    - side: their side in pixels; 0 means that of the images that the pipeline was made for.
    - prompts_an_image: how many prompts each photograph is edited with.
    - strength, steps, guidance: the settings of the edits.
    - seed: the seed of the choice of photographs, of attacks, noise and intervals.
    - batch_size: how many images are made or measured at a time.
    - pairs: the network of the feature distance.
    - sets: the network of Fréchet distance and KID.
    """

    pipeline: str
    hardened: str
    clip: str
    prompts: tuple[str, ...]
    attacks: tuple[ChosenAttack, ...]
    images: int
    purifiers: tuple[ChosenPurifier, ...] = ()
    side: int = 0
    prompts_an_image: int = 1
    strength: float = STRENGTH
    steps: int = STEPS
    guidance: float = GUIDANCE
    seed: int = 0
    batch_size: int = 8
    pairs: str = "efficientnet-lite1"
    sets: str = "efficientnet-lite1"
    twin: str = ""


@dataclass(frozen=True)
class Concept:
    """A folder of photographs, and the word for what they show. The word stands in captions, and the judge knows it."""

    folder: str
    word: str


@dataclass(frozen=True)
class Pair:
    """Two words among the protocol's concepts: poison makes a model show `target` when it is asked for `concept`."""

    concept: str
    target: str


@dataclass(frozen=True)
class PoisoningProtocol:
    """The settings of the poisoning benchmark.

    - pipeline, hardened, clip, judge: the models, as `load_pipeline`, `load_vae`, `load_clip` and `load_judge` take them.
    - concepts: what the clean training images show, `clean_each` images of each.
    - pairs: which concept is poisoned towards which target.
    - counts: how many poisons are added. No poison at all is always measured, too.
    - eps: the budgets of Nightshade, and `attack_steps` its steps.
    - more_steps: how many steps more Nightshade is also run for, to see whether it has converged. At 0 that is not tried.
    - sources: from how many photographs poisons are made at most. More poisons than that are repeats.
    - white_box: whether poison is also made on the hardened VAE, and tried on it.
    - dirty_label: whether pictures of the target, captioned as the concept, are also tried.
    - seeds: the seeds of the fine-tunings.
    - purifiers: the purifiers that training images go through.
    - scan_rate: the share of clean images that the scan may leave out. At 0 the scan is not tried.
    - steps, batch_size, learning_rate: the settings of fine-tuning.
    - generated: how many images of the concept are generated after each fine-tuning.
    - others: how many images of each other concept are generated.
    - denoising_steps: the steps of every generation.
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
    more_steps: int = 0
    steps: int = 150
    batch_size: int = 12
    learning_rate: float = 2e-4
    generated: int = 24
    others: int = 2
    denoising_steps: int = STEPS
    clip: str = "tiny-clip"
    judge: str = "judge"


def as_written(protocol: ReconstructionProtocol | EditingProtocol | PoisoningProtocol | MimicryProtocol) -> dict[str, Any]:
    """The protocol as plain data for a result file. Budgets are written as they are in TOML files, such as `15/255`."""
    return _written(asdict(protocol))


def _written(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _written(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item, key) for item in value]
    return budget(value) if key == "eps" else value
