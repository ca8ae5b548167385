"""Purifies images. A cache keeps what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from srlvae.attacks.through import Through
from srlvae.bench.attacked import ImageSet
from srlvae.bench.cache import Cache, key_of
from srlvae.bench.protocol import ChosenPurifier
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.purify import PURIFIERS
from srlvae.purify.load import identity, load_model
from srlvae.rng import Generators, named_generator


class Purifiers:
    """The purifiers of a protocol, run on the original pipeline or on a pipeline of their own, which is loaded once."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self.loaded = pipeline, dict[str, tuple[Any, dict[str, Any]]]()
        self.vae, self.networks = pipeline.vae.fingerprint(), pipeline.fingerprint()
        self.sampling = pipeline.settings()

    def run(
        self,
        chosen: ChosenPurifier,
        x: Images,
        names: Sequence[str],
        seed: int,
        brief: bool = False,
        listener: Listener | None = None,
    ) -> Images:
        """Purify a batch of images `n 3 h w` in [0,1].

        - names: a name for each image, which decides its random draws together with `seed`. They are not those of an attack
          on it with the same seed, whose start they would take back in part.
        - brief: whether to run a round or two only, which is enough to measure memory.
        - listener: may stop a purifier of many rounds after each.
        """
        purifier, device = PURIFIERS[chosen.name], self.pipeline.device
        changed = {**chosen.settings, **(purifier.short_settings if brief else {})}
        draws = [named_generator(seed, f"purified {name}") for name in names]
        return purifier(x.to(device), draws, self.model_of(chosen)[0], listener, **changed).cpu()

    def images(self, chosen: ChosenPurifier, given: ImageSet, names: Sequence[str], seed: int, cache: Cache) -> ImageSet:
        """The images of `given` after the purifier. Only those that the cache does not have are made."""
        made_by = {"purifier": chosen.name, **self.settings_of(chosen), **self.model_of(chosen)[1]}
        keys = [key_of("purified", **made_by, seed=seed, source=source) for source in given.keys]

        def make(part: list[int]) -> tuple[Tensor, list[Any]]:
            x, named = given.images[part], [names[i] for i in part]
            return self.run(chosen, x, named, seed, listener=cache.listener), [None] * len(part)

        return ImageSet(keys, cache.images(keys, make))

    def settings_of(self, chosen: ChosenPurifier) -> dict[str, Any]:
        """All settings of a purifier: the published ones, or those that the protocol has in their place."""
        return {**PURIFIERS[chosen.name].settings, **chosen.settings}

    def through(self, chosen: ChosenPurifier) -> Through:
        """How an attack that knows a purifier goes through it."""
        model, named = self.model_of(chosen)
        settings = self.settings_of(chosen)

        def run(x: Images, generators: Generators) -> Images:
            return PURIFIERS[chosen.name](x, generators, model, **chosen.settings)

        return Through({"purifier": chosen.name, **settings, **named}, run, chosen.draws)

    def model_of(self, chosen: ChosenPurifier) -> tuple[Any, dict[str, Any]]:
        """The model that a purifier runs on, None if it needs none, and what names the model in keys."""
        needs = PURIFIERS[chosen.name].needs
        if needs == "nothing":
            return None, {}
        if needs == "vae":
            return self.pipeline.vae, {"vae": self.vae}
        if needs == "pipeline":
            return self.pipeline, {"vae": self.vae, "networks": self.networks, "sampling": self.sampling}
        if chosen.source not in self.loaded:
            model = load_model(needs, chosen.source, self.pipeline.device)
            self.loaded[chosen.source] = model, {"model": identity(model)}
        return self.loaded[chosen.source]
