"""The settings of the mimicry benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from srlvae.bench.protocol import ChosenAttack, ChosenPurifier, Concept
from srlvae.bench.styles import Style
from srlvae.models.edit_settings import STEPS


@dataclass(frozen=True)
class MimicryProtocol:
    """The settings of the mimicry benchmark.

    - pipeline, hardened: the models, as `load_pipeline` and `load_vae` take them.
    - styles: the hands that are mimicked; see `bench.styles`.
    - attacks: what protects the pictures. Only their names, presets, budgets, steps and `white_box` count here.
    - purifiers: what a mimic does about it, beside the hardened VAE.
    - concepts: what the pictures show, and what is generated.
    - each: how many of the artist's pictures show each concept.
    - judged, held_out: on how many photographs of each concept the judge is fitted, and tried.
    - features: the network behind the judge. It must not be the one that an encoder was hardened on.
    - seeds: the seeds of the fine-tunings, and `attack_seed` that of the attacks.
    - steps, batch_size, learning_rate: the settings of fine-tuning.
    - generated: how many images of each concept are generated after each fine-tuning.
    - denoising_steps: the steps of every generation.
    """

    pipeline: str
    hardened: str
    styles: tuple[Style, ...]
    attacks: tuple[ChosenAttack, ...]
    concepts: tuple[Concept, ...]
    purifiers: tuple[ChosenPurifier, ...] = ()
    each: int = 3
    judged: int = 30
    held_out: int = 10
    features: str = "efficientnet-lite1"
    seeds: tuple[int, ...] = (0,)
    attack_seed: int = 0
    steps: int = 100
    batch_size: int = 6
    learning_rate: float = 4e-4
    generated: int = 4
    denoising_steps: int = STEPS
