"""The type of an entry in the table of purifiers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from srlvae.config import MOST_PIXELS, MOST_STEPS, Range, check_number
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.models.edit_settings import MOST_STEPS_OF_NOISE
from srlvae.words import shortened

# The bounds of settings, whatever purifier has them.
RANGES: Mapping[str, Range] = {
    "quality": (1, 100),
    "sigma": (0, 1),
    "factor": (1, 64),
    "bilateral": (0, MOST_STEPS),
    "guided": (0, MOST_STEPS),
    "strength": (0, 1),
    "gamma": (0, 1),
    "steps": (1, MOST_STEPS),
    "rounds": (1, MOST_STEPS),
    "t": (1, MOST_STEPS_OF_NOISE),
    "level": (0, MOST_STEPS_OF_NOISE),
    "low": (16, MOST_PIXELS),
    "learning_rate": (0, math.inf),
    "weight": (0, math.inf),
    "budget": (0, math.inf),
}

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

    def check_settings(self, where: str, settings: Mapping[str, Any]) -> None:
        """Raise InputError that names `where` for a setting that the purifier has not, of another kind, or out of its range."""
        for name, value in settings.items():
            if name not in self.setting_names:
                known = ", ".join(self.setting_names) or "none"
                raise InputError(f"{where} has no setting {name!r}; it has {known}")
            wanted = int if isinstance(self.settings.get(name), int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, wanted):
                kind = "a whole number" if wanted is int else "a number"
                raise InputError(f"{where}: {name} must be {kind}, got {shortened(value)}")
            check_number(f"{where}: {name}", value, *RANGES.get(name, (-math.inf, math.inf)))

    @property
    def _model(self) -> str:
        return self.needs.replace("-", "_")
