"""Loads protocols, by name or from a TOML file, and checks them before anything is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from srlvae.attacks import ATTACKS
from srlvae.attacks.request import Request
from srlvae.bench.cells import MADE_ON
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.protocol import ChosenAttack, ChosenPurifier, EditingProtocol, PoisoningProtocol, ReconstructionProtocol
from srlvae.bench.styles import STYLES
from srlvae.config import MOST_IMAGES, MOST_PIXELS, MOST_SEED, MOST_STEPS, Range, check_numbers, read_toml
from srlvae.errors import InputError, unknown
from srlvae.images import check_eps
from srlvae.metrics.features import FEATURES
from srlvae.models.edit_settings import MOST_STEPS_OF_NOISE, steps_run
from srlvae.purify import PURIFIERS

# What a purifier may need without a pipeline besides the protocol's.
OWN_MODELS = ("nothing", "vae", "pipeline")

# The numbers of images in protocols of which at least one is needed, and the bounds of all numbers.
IMAGES = ("images", "clean_images", "prompts_an_image", "clean_each", "sources", "generated", "each", "held_out", "batch_size")
RANGES: dict[str, Range] = {
    **{name: (1, MOST_IMAGES) for name in IMAGES},
    "steps": (1, MOST_STEPS),
    "attack_steps": (0, MOST_STEPS),
    "more_steps": (0, MOST_STEPS),
    "denoising_steps": (1, MOST_STEPS_OF_NOISE),
    "counts": (0, MOST_IMAGES),
    "judged": (2, MOST_IMAGES),
    "attack_seed": (0, MOST_SEED),
    "others": (0, MOST_IMAGES),
    # SSIM is a mean over windows of 11 pixels.
    "size": (16, MOST_PIXELS),
    "seed": (0, MOST_SEED),
    "seeds": (0, MOST_SEED),
    "guidance": (-1000, 1000),
    "learning_rate": (0, math.inf),
    "scan_rate": (0, 1),
}

FOLDER = Path(__file__).parent / "protocols"


def reconstruction_protocol(name: str, benchmark: str = "reconstruction", **changed: Any) -> ReconstructionProtocol:
    """Load the protocol of `benchmark` (`reconstruction` or `hardening`) that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find(benchmark, name), ReconstructionProtocol), **changed)
    _check_numbers(name, protocol)
    _not_empty(name, attacks=protocol.attacks, eps=protocol.eps)
    _known(name, "attack", protocol.attacks, ATTACKS)
    if pipelines := [attack for attack in protocol.attacks if ATTACKS[attack].needs != "vae"]:
        raise InputError(f"{name}: {pipelines[0]} attacks a whole pipeline, but this benchmark has only a VAE")
    _check_budgets(name, protocol.eps)
    _check_networks(name, protocol.pairs, protocol.sets)
    return protocol


def editing_protocol(name: str, **changed: Any) -> EditingProtocol:
    """Load the editing protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("editing", name), EditingProtocol), **changed)
    _check_numbers(name, protocol)
    steps_run(protocol.steps, protocol.strength)
    _not_empty(name, prompts=protocol.prompts, attacks=protocol.attacks)
    _check_networks(name, protocol.pairs, protocol.sets)
    _check_purifiers(name, protocol.purifiers)
    if not protocol.twin:
        # Without a twin nothing is made on one; the result says so.
        own = (dataclasses.replace(c, also_on=tuple(on for on in c.also_on if on != "twin")) for c in protocol.attacks)
        protocol = dataclasses.replace(protocol, attacks=tuple(own))
    _check_attacks(name, protocol)
    return protocol


def _check_attacks(where: str, protocol: EditingProtocol | MimicryProtocol) -> None:
    _known(where, "attack", [chosen.label for chosen in protocol.attacks], ATTACKS)
    for chosen in protocol.attacks:
        _not_empty(f"{where}: {chosen.name}", eps=chosen.eps)
        _check_budgets(f"{where}: {chosen.name}", chosen.eps)
        _check_variants(f"{where}: {chosen.label}", chosen, protocol)


def _check_variants(where: str, chosen: ChosenAttack, protocol: EditingProtocol | MimicryProtocol) -> None:
    """Check what an attack is to be made on and through besides. Its request is checked by itself."""
    attack = ATTACKS[chosen.name]
    if chosen.preset and chosen.preset not in attack.presets:
        raise unknown(f"{where}: unknown preset", chosen.preset, attack.presets)
    for on in chosen.also_on:
        if on not in MADE_ON:
            raise unknown(f"{where}: also_on has", on, MADE_ON)
        if on == "both" and attack.needs != "vae":
            raise InputError(f"{where}: it attacks a whole pipeline, which has one VAE; take both out of also_on")
    for name in chosen.through:
        if name not in [purifier.name for purifier in protocol.purifiers]:
            raise InputError(f"{where}: goes through {name!r}, which is none of the protocol's purifiers")
    for starts in chosen.starts:
        Request(chosen.name, preset=chosen.preset or None, restarts=starts)


def poisoning_protocol(name: str, **changed: Any) -> PoisoningProtocol:
    """Load the poisoning protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("poisoning", name), PoisoningProtocol), **changed)
    _check_numbers(name, protocol)
    _not_empty(name, concepts=protocol.concepts, pairs=protocol.pairs, eps=protocol.eps, seeds=protocol.seeds)
    _not_empty(name, counts=[count for count in protocol.counts if count])
    if len(protocol.concepts) < 3 or protocol.others < 1:
        raise InputError(
            f"{name}: measuring what poison does to other concepts needs at least 3 concepts, and `others` of at least 1"
        )
    _check_budgets(name, protocol.eps)
    _check_purifiers(name, protocol.purifiers, loads=False)
    return protocol


def mimicry_protocol(name: str, **changed: Any) -> MimicryProtocol:
    """Load the mimicry protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("mimicry", name), MimicryProtocol), **changed)
    _check_numbers(name, protocol)
    _not_empty(name, concepts=protocol.concepts, styles=protocol.styles, attacks=protocol.attacks, seeds=protocol.seeds)
    _known(name, "style", [style.kind for style in protocol.styles], STYLES)
    for style in protocol.styles:
        check_numbers(style, f"{name}: {style.kind}: ", seed=(0, MOST_SEED))
    for chosen in protocol.attacks:
        if chosen.also_on or chosen.parts or chosen.through or chosen.sweep or chosen.starts:
            raise InputError(f"{name}: {chosen.label}: variants of attacks are for the editing benchmark alone; leave them out")
    _check_attacks(name, protocol)
    _check_networks(name, protocol.features)
    _check_purifiers(name, protocol.purifiers, loads=False)
    return protocol


def _check_numbers(where: str, protocol: Any) -> None:
    """Check the numbers of a protocol; the budgets have a check of their own."""
    names = {field.name for field in dataclasses.fields(protocol)}
    check_numbers(protocol, f"{where}: ", **{name: bounds for name, bounds in RANGES.items() if name in names})
    for chosen in getattr(protocol, "attacks", ()):
        if isinstance(chosen, ChosenAttack):
            numbers = {"sweep": (1, MOST_STEPS), "starts": (1, MOST_STEPS)}
            check_numbers(chosen, f"{where}: {chosen.name}: ", steps=(0, MOST_STEPS), **numbers)
    for chosen in getattr(protocol, "purifiers", ()):
        check_numbers(chosen, f"{where}: {chosen.name}: ", draws=(1, MOST_STEPS))


def _not_empty(where: str, **lists: Sequence[Any]) -> None:
    for key, values in lists.items():
        if not values:
            raise InputError(f"{where}: {key} must not be empty")


def _known(where: str, what: str, names: Sequence[str], known: Any) -> None:
    """Check that every name is known, and that each is there once, since rows are told apart by it."""
    for i, name in enumerate(names):
        if name.partition(":")[0] not in known:
            raise unknown(f"{where}: unknown {what}", name, known)
        if name in names[:i]:
            raise InputError(f"{where}: {what} {name!r} is listed twice; give all of its budgets in one list, or use two files")


def _check_budgets(where: str, budgets: Iterable[float]) -> None:
    for eps in budgets:
        try:
            check_eps(eps)
        except InputError as error:
            raise InputError(f'{where}: {error}, as eps = ["15/255"]') from error
        if eps == 0:
            raise InputError(f"{where}: eps is 0; leave it out, because clean images are always measured")


def _check_networks(where: str, *names: str) -> None:
    for name in names:
        if name not in FEATURES:
            raise unknown(f"{where}: unknown feature network", name, FEATURES)


def _check_purifiers(where: str, purifiers: Sequence[ChosenPurifier], loads: bool = True) -> None:
    """Check purifiers. A benchmark that `loads` no models besides the protocol's takes none that needs others."""
    _known(where, "purifier", [chosen.name for chosen in purifiers], PURIFIERS)
    for chosen in purifiers:
        purifier = PURIFIERS[chosen.name]
        _check_budgets(f"{where}: {chosen.name}", chosen.eps)
        if purifier.needs not in OWN_MODELS and not loads:
            raise InputError(f"{where}: {chosen.name} needs an extra pipeline, which this benchmark does not load")
        if purifier.needs not in OWN_MODELS and not chosen.source:
            raise InputError(f"{where}: {chosen.name} needs `source`, the folder or hub id of a pipeline, or a remover's file")
        if strange := sorted(set(chosen.settings) - set(purifier.setting_names)):
            raise InputError(
                f"{where}: {chosen.name} has no setting {strange[0]!r}; it has {', '.join(purifier.setting_names) or 'none'}"
            )


def _find(kind: str, name: str) -> Path:
    known = {path.stem: path for path in sorted((FOLDER / kind).glob("*.toml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise InputError(f"no protocol {name!r}; choose one of {', '.join(known)}, or give a TOML file")
    return path
