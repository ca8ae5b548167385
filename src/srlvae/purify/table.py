"""The type of an entry in the table of purifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from srlvae.images import Images

Needs = Literal["nothing", "vae", "pipeline", "pixel", "upscaler", "pixel-upscaler", "remover"]


@dataclass(frozen=True)
class Purifier:
    """A purifier `(x, *, generators, <needs>=…, **settings) → images`, of the same shape and in [0,1].

    - `run` is the function.
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

    def __call__(self, x: Images, generators, model: Any = None, **changed: Any) -> Images:
        """Purify `x` by the published settings, or by those that are `changed`. `model` is what the purifier needs."""
        model_argument = {} if self.needs == "nothing" else {self.needs.replace("-", "_"): model}
        return self.run(x, generators=generators, **model_argument, **{**self.settings, **changed})
