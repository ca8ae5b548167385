"""Checks of what protocols have in common. Each raises InputError that names the protocol and the setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from srlvae.attacks.engine.ball import Ball
from srlvae.bench.protocol import ChosenAttack, ChosenPurifier, Concept, EditingProtocol
from srlvae.config import MOST_IMAGES, MOST_PIXELS, MOST_SEED, MOST_STEPS, Range, budget, check_numbers
from srlvae.errors import InputError, unknown
from srlvae.images import check_eps
from srlvae.metrics.features import FEATURES
from srlvae.models.edit_settings import MOST_STEPS_OF_NOISE
from srlvae.purify import PURIFIERS

# What a purifier may need without a pipeline besides the protocol's.
OWN_MODELS = ("nothing", "vae", "pipeline")

# In pixels: SSIM is a mean over windows of 11.
SMALLEST_SIDE = 16
# The numbers of images in protocols of which at least one is needed, and the bounds of all numbers.
IMAGES = ("prompts_an_image", "clean_each", "sources", "generated", "each", "held_out", "batch_size")
RANGES: dict[str, Range] = {
    **{name: (1, MOST_IMAGES) for name in IMAGES},
    # A photograph alone has no interval.
    "images": (2, MOST_IMAGES),
    "clean_images": (2, MOST_IMAGES),
    "steps": (1, MOST_STEPS),
    "attack_steps": (0, MOST_STEPS),
    "more_steps": (0, MOST_STEPS),
    "denoising_steps": (1, MOST_STEPS_OF_NOISE),
    "counts": (0, MOST_IMAGES),
    "judged": (2, MOST_IMAGES),
    "attack_seed": (0, MOST_SEED),
    "others": (0, MOST_IMAGES),
    "size": (SMALLEST_SIDE, MOST_PIXELS),
    "side": (0, MOST_PIXELS),
    "seed": (0, MOST_SEED),
    "seeds": (0, MOST_SEED),
    "guidance": (-1000, 1000),
    "learning_rate": (0, math.inf),
    "scan_rate": (0, 1),
}


def check_all_numbers(where: str, protocol: Any) -> None:
    """Check the numbers of a protocol; the budgets have a check of their own."""
    names = {field.name for field in dataclasses.fields(protocol)}
    check_numbers(protocol, f"{where}: ", **{name: bounds for name, bounds in RANGES.items() if name in names})
    for chosen in getattr(protocol, "attacks", ()):
        if isinstance(chosen, ChosenAttack):
            numbers = {"sweep": (1, MOST_STEPS), "starts": (1, MOST_STEPS)}
            check_numbers(chosen, f"{where}: {chosen.name}: ", steps=(0, MOST_STEPS), **numbers)
    for chosen in getattr(protocol, "purifiers", ()):
        check_numbers(chosen, f"{where}: {chosen.name}: ", draws=(1, MOST_STEPS))


def check_not_empty(where: str, **lists: Sequence[Any]) -> None:
    """Check that none of the lists is empty."""
    for key, values in lists.items():
        if not values:
            raise InputError(f"{where}: {key} must not be empty")


def check_distinct(where: str, **lists: Sequence[Any]) -> None:
    """Check that no list has a value twice: it would be measured twice and counted as two."""
    for key, values in lists.items():
        for i, value in enumerate(values):
            if value in values[:i]:
                raise InputError(f"{where}: {key} has {value!r} twice")


def check_known(where: str, what: str, names: Sequence[str], known: Any) -> None:
    """Check that every name is known, and that each is there once, since rows are told apart by it."""
    for i, name in enumerate(names):
        if name.partition(":")[0] not in known:
            raise unknown(f"{where}: unknown {what}", name, known)
        if name in names[:i]:
            raise InputError(f"{where}: {what} {name!r} is listed twice; give all of its budgets in one list, or use two files")


def check_words(where: str, concepts: Sequence[Concept]) -> None:
    """Check that no two folders share a word, by which they are told apart."""
    check_distinct(where, words=[concept.word for concept in concepts], folders=[concept.folder for concept in concepts])


def check_budgets(where: str, budgets: Sequence[float], ball: Ball | None = None) -> None:
    """Check that budgets are in [0,1] units and above 0, and that each is there once.

    Those of an attack in an ℓ∞ `ball` have to be whole grey levels: it would get the level below and noise the one above.
    """
    check_distinct(where, eps=[budget(eps) for eps in budgets])
    for eps in budgets:
        try:
            check_eps(eps)
        except InputError as error:
            raise InputError(f'{where}: {error}, as eps = ["15/255"]') from error
        if eps == 0:
            raise InputError(f"{where}: eps is 0; leave it out, because clean images are always measured")
        if ball and ball.norm == "linf" and abs(eps * 255 - round(eps * 255)) > 1e-6:
            raise InputError(f"{where}: eps is {eps * 255:g}/255; give whole grey levels, such as {math.ceil(eps * 255)}/255")


def check_networks(where: str, *names: str) -> None:
    """Check that feature networks are known."""
    for name in names:
        if name not in FEATURES:
            raise unknown(f"{where}: unknown feature network", name, FEATURES)


def check_purifiers(where: str, purifiers: Sequence[ChosenPurifier], loads: bool = True) -> None:
    """Check purifiers. A benchmark that `loads` no models besides the protocol's takes none that needs others."""
    check_known(where, "purifier", [chosen.name for chosen in purifiers], PURIFIERS)
    for chosen in purifiers:
        purifier = PURIFIERS[chosen.name]
        check_budgets(f"{where}: {chosen.name}", chosen.eps)
        if purifier.needs not in OWN_MODELS and not loads:
            raise InputError(f"{where}: {chosen.name} needs a model of its own, which this benchmark does not load")
        if purifier.needs not in OWN_MODELS and not chosen.source:
            raise InputError(f"{where}: {chosen.name} needs `source`, the folder or hub id of a pipeline, or a remover's file")
        purifier.check_settings(f"{where}: {chosen.name}", chosen.settings)
        if not loads and chosen != ChosenPurifier(chosen.name, settings=chosen.settings):
            raise InputError(
                f"{where}: {chosen.name}: settings and a name are all that this benchmark looks at; leave out the rest"
            )


def check_tried(where: str, protocol: EditingProtocol) -> None:
    """Check that what a purifier is tried on is there, and that it is tried on what goes through it."""
    attacks = [chosen.name for chosen in protocol.attacks]
    budgets = [eps for chosen in protocol.attacks for eps in chosen.eps]
    for purifier in protocol.purifiers:
        for attack in purifier.attacks:
            if attack not in attacks:
                raise unknown(f"{where}: {purifier.name}: attacks has", attack, attacks)
        if strange := [budget(eps) for eps in purifier.eps if eps not in budgets]:
            raise InputError(f"{where}: {purifier.name}: eps has {strange[0]}, which no attack of the protocol has")
    tried = {purifier.name: purifier for purifier in protocol.purifiers}
    for chosen in protocol.attacks:
        for name in chosen.through:
            if not any(tried[name].takes(chosen.name, eps) for eps in chosen.eps):
                raise InputError(
                    f"{where}: {chosen.label} goes through {name}, which is not tried on it: see its attacks and eps"
                )
