"""Images behind a purifier, kept by what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from srlvae.bench.cache import Store, key_of
from srlvae.bench.protocol import PurifierPlan
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.purify import PURIFIERS
from srlvae.purify.pixel_diffusion import load_pixel_pipeline
from srlvae.rng import named_generator


class Purification:
    """The purifiers of a protocol, on the original pipeline or on those that they need beside it, which are loaded once."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self.loaded = pipeline, dict[str, Any]()
        self.vae, self.networks = pipeline.vae.fingerprint(), pipeline.fingerprint()

    def run(self, plan: PurifierPlan, x: Images, names: Sequence[str], seed: int, brief: bool = False) -> Images:
        """Purify a batch; names: of the images, for their draws. brief: a round or two, as for a measurement of memory."""
        purifier, device = PURIFIERS[plan.name], self.pipeline.device
        changed = {**plan.settings, **(purifier.brief if brief else {})}
        draws = [named_generator(seed, name, device) for name in names]
        return purifier(x.to(device), draws, self.model_of(plan)[0], **changed).cpu()

    def keep(
        self,
        plan: PurifierPlan,
        x: Images,
        sources: Sequence[str],
        names: Sequence[str],
        seed: int,
        store: Store,
    ) -> tuple[list[str], Images]:
        """The keys and the purified images of `x`, whose own keys are `sources`, made where they are missing."""
        made_by = {"purifier": plan.name, **PURIFIERS[plan.name].settings, **plan.settings, **self.model_of(plan)[1]}
        keys = [key_of("purified", **made_by, seed=seed, source=source) for source in sources]

        def make(part: list[int]) -> tuple[Tensor, list[Any]]:
            return self.run(plan, x[part], [names[i] for i in part], seed), [None] * len(part)

        return keys, store.images(keys, make)

    def model_of(self, plan: PurifierPlan) -> tuple[Any, dict[str, str]]:
        """What a purifier runs on, and what names it."""
        needs = PURIFIERS[plan.name].needs
        if needs == "nothing":
            return None, {}
        if needs == "vae":
            return self.pipeline.vae, {"vae": self.vae}
        if needs == "pipeline":
            return self.pipeline, {"vae": self.vae, "networks": self.networks}
        if plan.source not in self.loaded:
            self.loaded[plan.source] = load_pixel_pipeline(needs, plan.source, self.pipeline.device)
        return self.loaded[plan.source], {"model": plan.source}
