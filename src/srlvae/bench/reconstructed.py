"""Measures what a VAE reconstructs from attacked photographs. A cache keeps the measures."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import transfer_doubts
from srlvae.bench.attacked import Attacker, ImageSet, photograph_set
from srlvae.bench.cache import Cache, key_of
from srlvae.bench.cells import CLEAN, PARTS, Cell
from srlvae.bench.distances import Networks, judges_of, load_networks
from srlvae.bench.estimates import mean_estimate, set_values
from srlvae.bench.protocol import ReconstructionProtocol
from srlvae.bench.rows import Condition, Row, access_of, read_measures
from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.metrics.pairwise import squared_shift
from srlvae.models.vae import VAE


def check_attackable(protocol: ReconstructionProtocol, vae: VAE) -> None:
    """Raise InputError for attacks that aim at a posterior, if the VAE has none."""
    if aimed := [attack for attack in protocol.attacks if ATTACKS[attack].posterior and not vae.has_posterior]:
        raise InputError(f"this VAE has no posterior for {', '.join(aimed)} to attack; take these out of the protocol")


def attack_cells(protocol: ReconstructionProtocol, *made_on: str) -> list[Cell]:
    """A cell for every attack, every ε, and each of the VAEs that the attack is made on."""
    return [Cell(attack, eps, on) for attack in protocol.attacks for eps in protocol.eps for on in made_on]


def part_cells(protocol: ReconstructionProtocol) -> list[Cell]:
    """A cell for each of PARTS of the perturbations that pull latents to a target and are made on the original VAE.

    Pulling to zero partly takes contrast out of the picture itself, which no faithful encoder can give back.
    """
    pulling = [cell for cell in attack_cells(protocol, "original") if ATTACKS[cell.attack].takes("target")]
    return [replace(cell, part=part) for cell in pulling for part in PARTS]


class Reconstructions:
    """Measures reconstructions of photographs, attacked and clean, by the original VAE and by hardened ones.

    - original: the VAE that others were hardened from.
    - x: the photographs `n 3 h w`, with values that are multiples of 1/255. The first `protocol.images` of them are attacked.
    - protocol: the settings.
    - cache: keeps attacked images and measures.
    """

    def __init__(self, original: VAE, x: Images, protocol: ReconstructionProtocol, cache: Cache):
        self.original, self.protocol, self.cache = original, protocol, cache
        self.pair_distances: dict[tuple[Cell | None, str], list[float]] = {}
        self.clean = photograph_set(x)

    @functools.cached_property
    def networks(self) -> Networks:
        """The networks that measure distances."""
        return load_networks(self.protocol.pairs, self.protocol.sets, self.protocol.batch_size, self.original.device)

    @functools.cached_property
    def latents(self) -> Tensor:
        """The original VAE's mean latents of the clean photographs."""
        return self.networks.in_batches(self.original.mean, self.clean.images)

    @functools.cached_property
    def pooled(self) -> Tensor:
        """The vectors `n d` of the clean photographs, for Fréchet distance and KID."""
        return self.networks.pooled(self.clean.images)

    def attacked(self, cell: Cell, hardened: VAE) -> tuple[ImageSet, list[str]]:
        """The images of a cell, and the doubts about the attack that made them."""
        vaes = {"original": self.original, "hardened": hardened}
        attacker = Attacker(vaes, lambda name: self.protocol.steps, self.protocol.seed, self.cache)
        found = attacker.images(cell, self.clean[: self.protocol.clean_images if cell == CLEAN else self.protocol.images])
        return found, attacker.doubts(found)

    def row(self, cell: Cell, defence: str, hardened: VAE, **condition: str | int | float) -> Row:
        """The row of a cell for the original VAE (defence `none`) or the hardened one.

        `condition` is added to the row's condition.
        """
        (given, doubts), vae = self.attacked(cell, hardened), hardened if defence == "hardened" else self.original
        about: Condition = {**cell.condition(), **condition}
        found, name = self._measured(vae, given), vae.fingerprint()
        self.pair_distances[cell, name] = found["distances"]
        if transfer := self.pair_distances.get((cell.transferred, name)):
            doubts = [*doubts, *transfer_doubts(torch.tensor(transfer), torch.tensor(found["distances"]))]
        measures = read_measures(found["measures"])
        return Row(about, access_of(cell.made_on, defence), defence, len(given.keys), measures, doubts)

    def _measured(self, vae: VAE, given: ImageSet) -> dict[str, Any]:
        vaes = {"vae": vae.fingerprint(), "original": self.original.fingerprint()}
        images = {"images": given.keys, "clean": self.clean.keys[: len(given.keys)]}
        key = key_of("reconstructed", **judges_of(self.protocol), **vaes, **images)
        return self.cache.record(key, lambda: self._measure(vae, given.images))

    def _measure(self, vae: VAE, attacked: Images) -> dict[str, Any]:
        n, networks = len(attacked), self.networks
        x, numbers = self.clean.images[:n], torch.arange(n)
        latents = networks.in_batches(vae.mean, attacked)
        y = networks.in_batches(lambda z: vae.decode(z).clamp(0, 1), latents)
        values = networks.pairwise(y, x) | {"shift": squared_shift(latents, self.latents[:n]).sqrt()}
        measures = {name: mean_estimate(found, self.protocol.seed) for name, found in values.items()}
        measures |= set_values(networks.pooled(y), self.pooled[:n], (numbers, numbers), networks.projection)
        return {
            "measures": {name: asdict(found) for name, found in measures.items()},
            "distances": values["distance"].tolist(),
        }
