"""Everything that the editing benchmark makes of photographs: attacked, purified, edited; kept, and made once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import Store, key_of, key_of_image
from srlvae.bench.perturbed import perturbed
from srlvae.bench.protocol import Cell, EditingProtocol, PurifierPlan
from srlvae.bench.purified import Purification
from srlvae.images import to_levels
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.purify.cost import measure_cost
from srlvae.rng import named_generator, uniform_like

# Photographs whose purification is timed.
TIMED = 2


@dataclass(frozen=True)
class Set:
    """Images and the keys of what they were made from, one for each photograph or, of edits, for each photograph and prompt."""

    keys: list[str]
    images: Tensor


class Editing:
    """The networks of a protocol around both VAEs, the photographs, and everything that is made of them."""

    def __init__(self, pipeline: Pipeline, hardened: VAE, x: Tensor, protocol: EditingProtocol, store: Store):
        self.protocol, self.store = protocol, store
        pipeline = pipeline.without_safety_checker()
        self.pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
        self.networks = pipeline.fingerprint()
        self.vaes = {name: pipe.vae.fingerprint() for name, pipe in self.pipelines.items()}
        self.purify = Purification(pipeline)
        self.clean = Set([key_of_image(image) for image in x], x)
        each, prompts = protocol.prompts_an_image, protocol.prompts
        self.of = [i for i in range(len(x)) for _ in range(each)]
        self.prompts = [prompts[k % len(prompts)] for k in range(len(self.of))]

    def attacked(self, cell: Cell) -> Set:
        """The photographs under an attack, whole grey levels within the budget."""
        if cell.attack == "none":
            return self.clean
        if cell.attack == "noise":
            keys = [key_of("noise", eps=cell.eps, seed=self.protocol.seed, source=key) for key in self.clean.keys]
            return Set(keys, self.store.images(keys, lambda part: (self._noisy(part, cell.eps), [None] * len(part))))
        return Set(*perturbed(self._prepared(cell), self.clean.images, self.clean.keys, self.store))

    def _prepared(self, cell: Cell) -> PreparedAttack:
        plan = next(plan for plan in self.protocol.attacks if plan.name == cell.attack)
        request = Request(cell.attack, eps=cell.eps / 255, steps=plan.steps or None, seed=self.protocol.seed)
        return prepare(request, self.pipelines[cell.made_on])

    def _noisy(self, part: list[int], eps: int) -> Tensor:
        x = self.clean.images[part]
        draws = [named_generator(self.protocol.seed, self.clean.keys[i]) for i in part]
        return to_levels((x + eps / 255 * uniform_like(x, draws)).clamp(0, 1)).float() / 255

    def purified(self, plan: PurifierPlan, given: Set) -> Set:
        return Set(*self.purify.keep(plan, given.images, given.keys, self.clean.keys, self.protocol.seed, self.store))

    def edits(self, given: Set, vae: str = "original", seed: int | None = None) -> Set:
        """The edits of all photographs with all of their prompts; the noise is the photograph's and the prompt's own."""
        protocol, pipeline = self.protocol, self.pipelines[vae]
        settings: dict[str, Any] = {"strength": protocol.strength, "steps": protocol.steps, "guidance": protocol.guidance}
        seed = protocol.seed if seed is None else seed
        made_by = {**settings, "seed": seed, "vae": self.vaes[vae], "networks": self.networks, "sampling": pipeline.settings()}
        keys = [key_of("edited", **made_by, prompt=p, source=given.keys[i]) for i, p in zip(self.of, self.prompts, strict=True)]

        def make(part: list[int]) -> tuple[Tensor, list[Any]]:
            x, prompts = given.images[[self.of[k] for k in part]], [self.prompts[k] for k in part]
            names = [self.clean.keys[self.of[k]] + self.prompts[k] for k in part]
            draws = [named_generator(seed, name, pipeline.device) for name in names]
            return pipeline.edit(x.to(pipeline.device), prompts, draws, **settings), [None] * len(part)

        return Set(keys, self.store.images(keys, make))

    def under(self, defence: str, given: Set) -> Set:
        """The edits of a set under a defence."""
        if defence in ("none", "hardened"):
            return self.edits(given, "original" if defence == "none" else "hardened")
        plan = next(plan for plan in self.protocol.purifiers if plan.name == defence)
        return self.edits(self.purified(plan, given))

    def timed_with(self) -> dict[str, Any]:
        """What measured costs depend on, as JSON gives it back."""
        plans = [asdict(plan) for plan in self.protocol.purifiers]
        where = {"machine": versions()["machine"], "device": str(self.pipelines["original"].device)}
        return json.loads(json.dumps({"purifiers": plans, **where, **self.vaes, "networks": self.networks}))

    def costs(self) -> dict[str, dict]:
        """What each purifier takes for an image, alone."""
        pipe, seed, found = self.pipelines["original"].pipe, self.protocol.seed, {}
        x, names = self.clean.images[:TIMED].to(pipe.device), self.clean.keys[:TIMED]
        for plan in self.protocol.purifiers:
            networks = {"encoder": pipe.vae.encoder, "decoder": pipe.vae.decoder, "unet": pipe.unet}
            if plan.source:
                networks |= {"pixel unet": self.purify.model_of(plan)[0].unet}
            run, brief = partial(self.purify.run, plan, seed=seed), partial(self.purify.run, plan, seed=seed, brief=True)
            _, cost = measure_cost(partial(run, names=names), partial(brief, names=names[:1]), x, networks)
            found[plan.name] = asdict(cost)
        return found
