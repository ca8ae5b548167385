"""What every file of a run has in common: an attack, its setting as chosen, the model, and the pictures given with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks import ATTACKS, Attack, Preset
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.engine.views import SAMPLING, VIEWS
from srlvae.errors import InputError
from srlvae.files import digest
from srlvae.images import Images, check_eps, image_size, pad_to_multiple, read_fitted, to_levels
from srlvae.metrics.features import Features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import Generators, named_generator


@dataclass(frozen=True)
class Job:
    """An attack in one setting on one model, the VAE of a pipeline where the attack needs no more.

    target, mask: picture files. through, draws: a view in VIEWS or SAMPLING, and how often a step sees it. features: of a
    perceptual budget.
    """

    name: str
    attack: Attack
    setting: Preset
    model: VAE | Pipeline
    seed: int = 0
    target: Path | None = None
    mask: Path | None = None
    through: str | None = None
    draws: int = 1
    features: Features | None = None

    @property
    def vae(self) -> VAE:
        return self.model.vae if isinstance(self.model, Pipeline) else self.model

    @property
    def norm(self) -> str:
        return self.setting.options.get("norm", "linf")

    def settings(self) -> dict[str, Any]:
        """What the files depend on, as it is written beside them."""
        setting = self.setting
        said = {"attack": self.name, "vae": self.vae.fingerprint(), "eps": setting.eps, "steps": setting.steps}
        said |= {"step_size": setting.step_size, "options": dict(setting.options), "seed": self.seed}
        if self.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            said |= {"pipeline": str(self.model.pipe.config.get("_name_or_path")), "networks": self.model.fingerprint()}
        if self.through:
            said |= {"through": self.through, "draws": self.draws}
        if self.features:
            said["features"] = self.features.name
        pictures = {key: path for key, path in (("target", self.target), ("mask", self.mask)) if path}
        return said | {key: f"{path} {digest(path)}" for key, path in pictures.items()}

    def made_from(self) -> dict[str, Any]:
        """The settings but for where the pipeline lies: what is kept by them holds for the same weights in another folder."""
        made_from = {key: value for key, value in self.settings().items() if key != "pipeline"}
        if self.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            made_from["sampling"] = self.model.settings()
        return made_from

    def run(self, x: Images, names: Sequence[str], watch: Trace) -> Images:
        """Attacked images of whole grey levels, within the budget."""
        setting, factor = self.setting, self.vae.factor
        draws = [named_generator(self.seed, name, x.device) for name in names]
        model = {"vae": self.vae} if self.attack.needs == "vae" else {"pipeline": self.model}
        adversarial = self.attack.run(
            pad_to_multiple(x, factor),
            **model,
            # A budget between two grey levels would be rounded up on the file.
            eps=math.floor(setting.eps * 255 + 1e-6) / 255 if self.norm == "linf" else setting.eps,
            steps=setting.steps,
            step_size=setting.step_size,
            generators=draws,
            watch=watch,
            **{**setting.options, **self._through(draws), **self._pictures(x)},
        )
        return self._on_levels(adversarial[..., : x.shape[-2], : x.shape[-1]], x)

    def _through(self, draws: Generators) -> dict[str, Any]:
        found: dict[str, Any] = {"features": self.features} if self.features else {}
        if self.through == SAMPLING:
            return found | {"sampled": True, "repeats": self.draws}
        return found | ({"view": VIEWS[self.through](draws), "repeats": self.draws} if self.through else {})

    def _pictures(self, x: Images) -> dict[str, Tensor]:
        """Target and mask in the size of the images, padded like them."""
        found = {}
        if self.target:
            found["target"] = pad_to_multiple(_fitted(self.target, x), self.vae.factor)
        if self.mask:
            _check_shape(self.mask, x)
        if self.mask or x.shape[-2] % self.vae.factor or x.shape[-1] % self.vae.factor:
            mask = (_fitted(self.mask, x)[:, :1] > 0.5).to(x) if self.mask else torch.ones_like(x[:1, :1])
            # What is padded is cut off again: nothing may be hidden there.
            height, width = -x.shape[-2] % self.vae.factor, -x.shape[-1] % self.vae.factor
            found["mask"] = F.pad(mask, (0, width, 0, height)).repeat(len(x), 1, 1, 1)
        return found

    def _on_levels(self, adversarial: Images, x: Images) -> Images:
        """The nearest grey levels; where rounding has left an ℓ2 ball, those of a smaller perturbation."""
        rounded = to_levels(adversarial).float() / 255
        while self.norm == "l2" and bool((outside := self.size(rounded, x) > self.setting.eps).any()):
            shorter = torch.where(outside, 0.98, 1.0)[:, None, None, None]
            adversarial = x + shorter * (adversarial - x)
            rounded = to_levels(adversarial).float() / 255
        return rounded

    def size(self, adversarial: Images, x: Images) -> Float[Tensor, " b"]:
        """How large the perturbations are, in the norm of the budget."""
        delta = (adversarial - x).flatten(1)
        return delta.norm(dim=1) if self.norm == "l2" else delta.abs().amax(1)


def choose_setting(
    name: str,
    preset: str | None = None,
    *,
    eps: float | None = None,
    steps: int | None = None,
    prompt: str | None = None,
    target: Path | None = None,
    mask: Path | None = None,
    through: str | None = None,
    features: str | None = None,
    restarts: int | None = None,
) -> Preset:
    """The preset called `preset`, or the attack's first, changed by what is given; InputError as `attack_files`."""
    if name not in ATTACKS:
        raise InputError(f"unknown attack {name!r}; choose one of {', '.join(ATTACKS)}")
    attack = ATTACKS[name]
    if preset is not None and preset not in attack.presets:
        raise InputError(f"{name} has no preset {preset!r}; choose one of {', '.join(attack.presets)}")
    setting = attack.presets[preset] if preset else attack.default
    sampled = True if through == SAMPLING else None
    for option, value in (("prompt", prompt), ("target", target), ("features", features), ("sampled", sampled)):
        if value is not None and not attack.takes(option):
            raise InputError(f"{name} takes no {option}" if option != "sampled" else f"{name} cannot go through {SAMPLING}")
    for option, value in (("target", target), ("mask", mask)):
        if option in setting.wants and value is None:
            raise InputError(f"{name} with this preset wants a picture as --{option}")
    if through not in (None, SAMPLING, *VIEWS):
        raise InputError(f"unknown view {through!r}; choose one of {', '.join((*VIEWS, SAMPLING))}")
    if restarts is not None and restarts > 1 and (through or not attack.restarts):
        raise InputError(f"{name} draws anew at every step or has no random start, so that restarts gain nothing")
    if eps is not None:
        if setting.options.get("norm") != "l2":
            check_eps(eps)
        elif not 0 <= eps < math.inf:
            raise InputError(f"eps is {eps:g}; the radius of an ℓ2 ball is a number from 0 on")
        if 0 < eps * 255 < 1 - 1e-6:
            raise InputError(f"eps is {eps * 255:g}/255; the levels of a PNG cannot change by less than 1/255")
        setting = setting.at(eps)
    options = {key: value for key, value in (("prompt", prompt), ("restarts", restarts)) if value is not None}
    return replace(setting, steps=setting.steps if steps is None else steps, options={**setting.options, **options})


def _check_shape(mask: Path, x: Images) -> None:
    """A mask of other proportions would mark other pixels than it shows."""
    width, height = image_size(mask) or (x.shape[-1], x.shape[-2])
    if abs(width * x.shape[-2] - height * x.shape[-1]) > max(width, height) + max(x.shape[-2:]):
        raise InputError(
            f"{mask} is {width} x {height}, and an image {x.shape[-1]} x {x.shape[-2]}: give it the same proportions"
        )


def _fitted(path: Path, x: Images) -> Images:
    """The picture in `path` in the shape of `x`, as a batch of one."""
    return read_fitted(path, x.shape[-2], x.shape[-1])[None].to(x)
