"""What the table of purifiers is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from srlvae.images import Images

Needs = Literal["nothing", "vae", "pipeline", "pixel", "upscaler", "pixel-upscaler"]


@dataclass(frozen=True)
class Purifier:
    """A purifier `(x, *, generators, <needs>=…, **settings) → images` of the same shape, in [0,1].

    needs: what `run` takes beside the images: a VAE or a `Pipeline`, or one of diffusers' pipelines as they are (`pixel`: a
    DDPMPipeline; `upscaler`: a StableDiffusionUpscalePipeline; `pixel-upscaler`: an IFImg2ImgSuperResolutionPipeline).
    settings: the published ones. brief: settings that run a round or two of the same size, for the measurement of memory.
    """

    run: Callable[..., Images]
    source: str
    needs: Needs = "nothing"
    settings: Mapping[str, Any] = field(default_factory=dict)
    brief: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, x: Images, generators, model: Any = None, **changed: Any) -> Images:
        model_argument = {} if self.needs == "nothing" else {self.needs.replace("-", "_"): model}
        return self.run(x, generators=generators, **model_argument, **{**self.settings, **changed})
