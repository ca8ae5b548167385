"""Loads protocols, by name or from a TOML file, and checks them before anything is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from srlvae.attacks import ATTACKS, Preset
from srlvae.attacks.request import Request
from srlvae.bench.cells import MADE_ON
from srlvae.bench.check_protocol import (
    SMALLEST_SIDE,
    check_all_numbers,
    check_budgets,
    check_distinct,
    check_known,
    check_networks,
    check_not_empty,
    check_purifiers,
    check_tried,
    check_words,
)
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.protocol import ChosenAttack, EditingProtocol, PoisoningProtocol, ReconstructionProtocol
from srlvae.bench.styles import STYLES
from srlvae.config import MOST_SEED, check_numbers, read_toml
from srlvae.errors import InputError, unknown
from srlvae.models.edit_settings import steps_run

FOLDER = Path(__file__).parent / "protocols"


def reconstruction_protocol(name: str, benchmark: str = "reconstruction", **changed: Any) -> ReconstructionProtocol:
    """Load the protocol of `benchmark` (`reconstruction` or `hardening`) that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find(benchmark, name), ReconstructionProtocol), **changed)
    check_all_numbers(name, protocol)
    check_not_empty(name, attacks=protocol.attacks, eps=protocol.eps)
    check_known(name, "attack", protocol.attacks, ATTACKS)
    if pipelines := [attack for attack in protocol.attacks if ATTACKS[attack].needs != "vae"]:
        raise InputError(f"{name}: {pipelines[0]} attacks a whole pipeline, but this benchmark has only a VAE")
    for attack in protocol.attacks:
        check_budgets(name, protocol.eps, ATTACKS[attack].default.ball)
    if benchmark == "hardening" and len(protocol.eps) > 1:
        raise InputError(f"{name}: eps has {len(protocol.eps)} budgets; runs are compared under one")
    check_networks(name, protocol.pairs, protocol.sets)
    return protocol


def editing_protocol(name: str, **changed: Any) -> EditingProtocol:
    """Load the editing protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("editing", name), EditingProtocol), **changed)
    check_all_numbers(name, protocol)
    steps_run(protocol.steps, protocol.strength)
    if 0 < protocol.side < SMALLEST_SIDE:
        raise InputError(f"{name}: side is {protocol.side}; give at least {SMALLEST_SIDE}, or 0 for the pipeline's own")
    check_not_empty(name, prompts=protocol.prompts, attacks=protocol.attacks)
    check_distinct(name, prompts=protocol.prompts)
    if protocol.prompts_an_image > len(protocol.prompts):
        raise InputError(
            f"{name}: prompts_an_image is {protocol.prompts_an_image}, but there are only {len(protocol.prompts)} prompts: an "
            "image would be edited twice with the same one"
        )
    check_networks(name, protocol.pairs, protocol.sets)
    check_purifiers(name, protocol.purifiers)
    if not protocol.twin:
        # Without a twin nothing is made on one; the result says so.
        own = (dataclasses.replace(c, also_on=tuple(on for on in c.also_on if on != "twin")) for c in protocol.attacks)
        protocol = dataclasses.replace(protocol, attacks=tuple(own))
    _check_attacks(name, protocol)
    check_tried(name, protocol)
    return protocol


def _check_attacks(where: str, protocol: EditingProtocol | MimicryProtocol) -> None:
    check_known(where, "attack", [chosen.label for chosen in protocol.attacks], ATTACKS)
    for chosen in protocol.attacks:
        presets = ATTACKS[chosen.name].presets
        if chosen.preset and chosen.preset not in presets:
            raise unknown(f"{where}: {chosen.label}: unknown preset", chosen.preset, presets)
        check_not_empty(f"{where}: {chosen.name}", eps=chosen.eps)
        check_budgets(f"{where}: {chosen.name}", chosen.eps, _published(chosen).ball)
        _check_variants(f"{where}: {chosen.label}", chosen, protocol)
    # The default preset by its name is the attack without a preset.
    check_distinct(where, attacks=[(chosen.name, _published(chosen).source) for chosen in protocol.attacks])


def _published(chosen: ChosenAttack) -> Preset:
    return Request(chosen.name, preset=chosen.preset or None).published


def _check_variants(where: str, chosen: ChosenAttack, protocol: EditingProtocol | MimicryProtocol) -> None:
    """Check what an attack is to be made on and through besides. Its request is checked by itself."""
    attack = ATTACKS[chosen.name]
    for on in chosen.also_on:
        if on not in MADE_ON:
            raise unknown(f"{where}: also_on has", on, MADE_ON)
        if on == "both" and attack.needs != "vae":
            raise InputError(f"{where}: it attacks a whole pipeline, which has one VAE; take both out of also_on")
    for name in chosen.through:
        if name not in [purifier.name for purifier in protocol.purifiers]:
            raise InputError(f"{where}: goes through {name!r}, which is none of the protocol's purifiers")
    check_distinct(where, also_on=chosen.also_on, through=chosen.through, sweep=chosen.sweep, starts=chosen.starts)
    for starts in chosen.starts:
        Request(chosen.name, preset=chosen.preset or None, restarts=starts)


def poisoning_protocol(name: str, **changed: Any) -> PoisoningProtocol:
    """Load the poisoning protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("poisoning", name), PoisoningProtocol), **changed)
    check_all_numbers(name, protocol)
    check_not_empty(name, concepts=protocol.concepts, pairs=protocol.pairs, eps=protocol.eps, seeds=protocol.seeds)
    check_not_empty(name, counts=[count for count in protocol.counts if count])
    check_distinct(name, concepts=protocol.concepts, pairs=protocol.pairs, counts=protocol.counts, seeds=protocol.seeds)
    if len(protocol.concepts) < 3 or protocol.others < 1:
        raise InputError(
            f"{name}: measuring what poison does to other concepts needs at least 3 concepts, and `others` of at least 1"
        )
    if same := [pair.concept for pair in protocol.pairs if pair.concept == pair.target]:
        raise InputError(f"{name}: {same[0]} cannot be its own target")
    check_words(name, protocol.concepts)
    check_budgets(name, protocol.eps, ATTACKS["nightshade"].default.ball)
    check_purifiers(name, protocol.purifiers, loads=False)
    return protocol


def mimicry_protocol(name: str, **changed: Any) -> MimicryProtocol:
    """Load the mimicry protocol that is called `name`, or is in the TOML file `name`.

    `changed` are settings in place of its own. Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = dataclasses.replace(read_toml(_find("mimicry", name), MimicryProtocol), **changed)
    check_all_numbers(name, protocol)
    check_not_empty(name, concepts=protocol.concepts, styles=protocol.styles, attacks=protocol.attacks, seeds=protocol.seeds)
    check_distinct(name, concepts=protocol.concepts, seeds=protocol.seeds)
    check_words(name, protocol.concepts)
    check_known(name, "style", [style.kind for style in protocol.styles], STYLES)
    for style in protocol.styles:
        check_numbers(style, f"{name}: {style.kind}: ", seed=(0, MOST_SEED))
    for chosen in protocol.attacks:
        if chosen.also_on or chosen.parts or chosen.through or chosen.sweep or chosen.starts:
            raise InputError(f"{name}: {chosen.label}: variants of attacks are for the editing benchmark alone; leave them out")
    _check_attacks(name, protocol)
    check_networks(name, protocol.features)
    check_purifiers(name, protocol.purifiers, loads=False)
    return protocol


def _find(kind: str, name: str) -> Path:
    known = {path.stem: path for path in sorted((FOLDER / kind).glob("*.toml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise InputError(f"no protocol {name!r}; choose one of {', '.join(known)}, or give a TOML file")
    return path
