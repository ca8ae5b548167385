"""The type of an entry in the table of purifiers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from srlvae.events import Listener
from srlvae.images import Images

Needs = Literal["nothing", "vae", "pipeline", "pixel", "upscaler", "pixel-upscaler", "remover"]


@dataclass(frozen=True)
class Purifier:
    """A purifier `(x, *, generators, <needs>=…, **settings) → images`, of the same shape and in [0,1].

    - `run` is the function. One that goes through many rounds takes a `listener`, too, which may stop it after each.
    - `source` says where the method and its settings were published.
    - `needs` says what `run` takes besides the images: a VAE, a `Pipeline`, a `Remover`, or one of diffusers' own pipelines
      (`pixel` is a DDPMPipeline, `upscaler` a StableDiffusionUpscalePipeline, `pixel-upscaler` an
      IFImg2ImgSuperResolutionPipeline).
    - `settings` are the published settings.
    - `short_settings` are settings for a round or two of the same size, with which memory is measured.
    """

    run: Callable[..., Images]
    source: str
    needs: Needs = "nothing"
    settings: Mapping[str, Any] = field(default_factory=dict)
    short_settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, x: Images, generators, model: Any = None, listener: Listener | None = None, **changed: Any) -> Images:
        """Purify `x` by the published settings, or by those that are `changed`. `model` is what the purifier needs."""
        given = {self._model: model, "listener": listener}
        given = {name: value for name, value in given.items() if name in inspect.signature(self.run).parameters}
        return self.run(x, generators=generators, **given, **{**self.settings, **changed})

    @property
    def setting_names(self) -> list[str]:
        """The names of all settings, sorted."""
        return sorted(set(inspect.signature(self.run).parameters) - {"x", "generators", "listener", self._model})

    @property
    def _model(self) -> str:
        return self.needs.replace("-", "_")
