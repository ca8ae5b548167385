"""What each defence of the editing benchmark costs for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.cache import key_of
from srlvae.bench.editor import Editor
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.purify.cost import measure_cost
from srlvae.purify.load import networks_of

# How many photographs are purified to measure the cost.
TIMED_PHOTOGRAPHS = 2


def defence_costs(editor: Editor) -> dict[str, Any]:
    """The costs of all defences for an image. They are measured once on each kind of system and GPU and then kept in the cache.

    - `purifiers` has seconds, bytes of memory and network passes, by the name of the purifier; see `srlvae.purify.cost.Cost`.
    - `encoder` has the seconds that the encoders of the original and of the hardened VAE take, and their `ratio`.
    """
    machine = {key: value for key, value in environment().items() if key in ("machine", "gpu")}
    made_with = {**machine, "device": str(editor.pipelines["original"].device), **editor.vaes}
    chosen = [{**asdict(purifier), **editor.purifiers.model_of(purifier)[1]} for purifier in editor.protocol.purifiers]
    vaes = {name: pipe.vae for name, pipe in editor.pipelines.items()}
    return editor.cache.record(
        key_of("timed", purifiers=chosen, **made_with, networks=editor.networks),
        lambda: {"purifiers": purifier_costs(editor), "encoder": encoder_costs(vaes, editor.clean.images)},
    )


def purifier_costs(editor: Editor) -> dict[str, dict[str, Any]]:
    """The cost of each purifier for an image, measured on the first photographs."""
    pipe, seed, found = editor.pipelines["original"].pipe, editor.protocol.seed, {}
    x, names = editor.clean.images[:TIMED_PHOTOGRAPHS].to(pipe.device), editor.clean.keys[:TIMED_PHOTOGRAPHS]
    for chosen in editor.protocol.purifiers:
        networks = {"encoder": pipe.vae.encoder, "decoder": pipe.vae.decoder, "unet": pipe.unet}
        if chosen.source:
            networks |= networks_of(editor.purifiers.model_of(chosen)[0])
        run = partial(editor.purifiers.run, chosen, seed=seed)
        _, cost = measure_cost(partial(run, names=names), partial(run, names=names[:1], brief=True), x, networks)
        found[chosen.name] = asdict(cost)
    return found


@torch.no_grad()
def encoder_costs(vaes: Mapping[str, VAE], x: Tensor, rounds: int = 15) -> dict[str, float]:
    """The median seconds that each VAE's encoder takes for an image, and the median `ratio` of hardened to original.

    The VAEs take turns for `rounds` rounds, after one to warm up. A ratio within a round is hardly touched by what else runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in vaes}
    for _ in range(rounds + 1):
        for name, vae in vaes.items():
            part = x[:8].to(vae.device)
            started = time.perf_counter()
            vae.mean(part).cpu()
            seconds[name].append((time.perf_counter() - started) / len(part))
    ratios = [after / before for before, after in zip(seconds["original"], seconds["hardened"], strict=True)]
    return {**{name: statistics.median(found[1:]) for name, found in seconds.items()}, "ratio": statistics.median(ratios[1:])}
