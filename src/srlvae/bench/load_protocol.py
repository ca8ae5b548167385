"""Loads protocols, by name or from a TOML file, and checks them before anything is run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from srlvae.attacks import ATTACKS
from srlvae.bench.protocol import ChosenPurifier, EditingProtocol, PoisoningProtocol, ReconstructionProtocol
from srlvae.config import read_toml
from srlvae.errors import InputError
from srlvae.images import check_eps
from srlvae.metrics.features import FEATURES
from srlvae.purify import PURIFIERS

# What a purifier may need without a pipeline besides the protocol's.
OWN_MODELS = ("nothing", "vae", "pipeline")

FOLDER = Path(__file__).parent / "protocols"


def reconstruction_protocol(name: str, benchmark: str = "reconstruction") -> ReconstructionProtocol:
    """Load the protocol of `benchmark` (`reconstruction` or `hardening`) that is called `name`, or is in the TOML file `name`.

    Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = read_toml(_find(benchmark, name), ReconstructionProtocol)
    _not_empty(name, attacks=protocol.attacks, eps=protocol.eps)
    _known(name, "attack", protocol.attacks, ATTACKS)
    if pipelines := [attack for attack in protocol.attacks if ATTACKS[attack].needs != "vae"]:
        raise InputError(f"{name}: {pipelines[0]} attacks a whole pipeline, but this benchmark has only a VAE")
    _check_budgets(name, protocol.eps)
    _check_networks(name, protocol.pairs, protocol.sets)
    return protocol


def editing_protocol(name: str) -> EditingProtocol:
    """Load the editing protocol that is called `name`, or is in the TOML file `name`.

    Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = read_toml(_find("editing", name), EditingProtocol)
    _not_empty(name, prompts=protocol.prompts, attacks=protocol.attacks)
    _known(name, "attack", [chosen.name for chosen in protocol.attacks], ATTACKS)
    _check_networks(name, protocol.pairs, protocol.sets)
    for chosen in protocol.attacks:
        _not_empty(f"{name}: {chosen.name}", eps=chosen.eps)
        _check_budgets(f"{name}: {chosen.name}", chosen.eps)
    _check_purifiers(name, protocol.purifiers)
    return protocol


def poisoning_protocol(name: str) -> PoisoningProtocol:
    """Load the poisoning protocol that is called `name`, or is in the TOML file `name`.

    Raises InputError for an unknown name, and for whatever is wrong in the file.
    """
    protocol = read_toml(_find("poisoning", name), PoisoningProtocol)
    _not_empty(name, concepts=protocol.concepts, pairs=protocol.pairs, eps=protocol.eps, seeds=protocol.seeds)
    _not_empty(name, counts=[count for count in protocol.counts if count])
    if len(protocol.concepts) < 3 or protocol.others < 1:
        raise InputError(
            f"{name}: measuring what poison does to other concepts needs at least 3 concepts, and `others` of at least 1"
        )
    _check_budgets(name, protocol.eps)
    _check_purifiers(name, protocol.purifiers)
    if own := [chosen.name for chosen in protocol.purifiers if PURIFIERS[chosen.name].needs not in OWN_MODELS]:
        raise InputError(f"{name}: {own[0]} needs an extra pipeline, which this benchmark does not load")
    return protocol


def _not_empty(where: str, **lists: Sequence[Any]) -> None:
    for key, values in lists.items():
        if not values:
            raise InputError(f"{where}: {key} must not be empty")


def _known(where: str, what: str, names: Sequence[str], known: Any) -> None:
    """Check that every name is known, and that each is there once, since rows are told apart by it."""
    for i, name in enumerate(names):
        if name not in known:
            raise InputError(f"{where}: unknown {what} {name!r}; choose from {', '.join(known)}")
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
            raise InputError(f"{where}: unknown feature network {name!r}; choose from {', '.join(FEATURES)}")


def _check_purifiers(where: str, purifiers: Sequence[ChosenPurifier]) -> None:
    _known(where, "purifier", [chosen.name for chosen in purifiers], PURIFIERS)
    for chosen in purifiers:
        purifier = PURIFIERS[chosen.name]
        _check_budgets(f"{where}: {chosen.name}", chosen.eps)
        if purifier.needs not in OWN_MODELS and not chosen.source:
            raise InputError(f"{where}: {chosen.name} needs `source`, the folder or hub id of a pipeline, or a remover's file")
        settings = set(inspect.signature(purifier.run).parameters) - {"x", "generators", purifier.needs.replace("-", "_")}
        if unknown := sorted(set(chosen.settings) - settings):
            raise InputError(
                f"{where}: {chosen.name} has no setting {unknown[0]!r}; it has {', '.join(sorted(settings)) or 'none'}"
            )


def _find(kind: str, name: str) -> Path:
    known = {path.stem: path for path in sorted((FOLDER / kind).glob("*.toml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise InputError(f"no protocol {name!r}; choose one of {', '.join(known)}, or give a TOML file")
    return path
