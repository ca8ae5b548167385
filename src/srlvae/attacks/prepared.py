"""An attack made ready on a model: what every batch of a run has in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.engine.views import SAMPLING, VIEWS
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import digest
from srlvae.images import Images, image_size, pad_to_multiple, read_fitted, to_levels
from srlvae.metrics.features import Features, load_features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import Generators, named_generator


def prepare(request: Request, model: VAE | Pipeline) -> PreparedAttack:
    """Make a request ready on a model. Raises InputError if the attack needs a pipeline and the model is a VAE."""
    if request.attack.needs == "pipeline" and not isinstance(model, Pipeline):
        raise InputError(f"{request.name} attacks a whole pipeline; give one with --pipeline")
    network = load_features(request.features).to(model.device) if request.features else None
    return PreparedAttack(request, model, network)


@dataclass(frozen=True)
class PreparedAttack:
    """A request on one model, with the network of its perceptual budget. Attacks on a VAE take that of a pipeline."""

    request: Request
    model: VAE | Pipeline
    features: Features | None = None

    @property
    def vae(self) -> VAE:
        """The VAE that is attacked."""
        return self.model.vae if isinstance(self.model, Pipeline) else self.model

    @property
    def ball(self) -> Ball:
        """The budget: whole grey levels for ℓ∞, since one between two levels would be rounded up on the file."""
        ball = self.request.changed.ball
        if ball.eps is None or ball.norm == "l2":
            return ball
        return replace(ball, eps=math.floor(ball.eps * 255 + 1e-6) / 255)

    def settings(self) -> dict[str, Any]:
        """What the images depend on, as it is written beside them."""
        request, preset = self.request, self.request.changed
        said = {"attack": request.name, "vae": self.vae.fingerprint(), **asdict(preset.ball), "eps": preset.ball.radius}
        said |= {"options": dict(preset.options), "restarts": preset.restarts, "repeats": preset.repeats, "seed": request.seed}
        if request.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            said |= {"pipeline": str(self.model.pipe.config.get("_name_or_path")), "networks": self.model.fingerprint()}
        if request.through:
            said |= {"through": request.through, "draws": request.draws}
        if self.features:
            said["features"] = self.features.name
        pictures = {key: path for key, path in (("target", request.target), ("mask", request.mask)) if path}
        return said | {key: f"{path} {digest(path)}" for key, path in pictures.items()}

    def made_from(self) -> dict[str, Any]:
        """The settings without the place of the pipeline, so that the same weights in another folder give the same images."""
        made_from = {key: value for key, value in self.settings().items() if key != "pipeline"}
        if self.request.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            made_from["sampling"] = self.model.settings()
        return made_from

    def perturb(self, x: Images, names: Sequence[str], watch: Trace | None = None) -> Images:
        """Attack images of any size. Returns whole grey levels within the budget.

        `names` are those of the images: each has a generator of its own, seeded by its name.
        """
        preset, factor = self.request.changed, self.vae.factor
        draws = [named_generator(self.request.seed, name, x.device) for name in names]
        adversarial = self.request.attack.run(
            pad_to_multiple(x, factor),
            **({"vae": self.vae} if self.request.attack.needs == "vae" else {"pipeline": self.model}),
            ball=self.ball,
            generators=draws,
            loop=self._loop(x, draws, watch),
            **{**preset.options, **self._given(x)},
        )
        return self._on_levels(adversarial[..., : x.shape[-2], : x.shape[-1]], x)

    def follow(self, listener: Listener) -> Trace:
        """A trace that tells the listener of every step. At its wish to stop, the step raises KeyboardInterrupt."""
        total = self.ball.steps * self.request.changed.restarts

        def stepped(step: int, objective: float) -> None:
            listener.at("steps", step, total, f"objective {objective:.4g}")
            if listener.should_stop():
                raise KeyboardInterrupt

        return Trace(stepped)

    def _loop(self, x: Images, draws: Generators, watch: Trace | None) -> Loop:
        preset, through = self.request.changed, self.request.through
        loop = Loop(mask=self._mask(x), restarts=preset.restarts, repeats=preset.repeats, watch=watch)
        if through is None:
            return loop
        return replace(loop, view=None if through == SAMPLING else VIEWS[through](draws), repeats=self.request.draws)

    def _given(self, x: Images) -> dict[str, Any]:
        """What the request adds to the options of the preset; the target in the size of the images, padded like them."""
        given: dict[str, Any] = {"features": self.features} if self.features else {}
        if self.request.through == SAMPLING:
            given["sampled"] = True
        if self.request.target:
            given["target"] = pad_to_multiple(_fitted(self.request.target, x), self.vae.factor)
        return given

    def _mask(self, x: Images) -> Float[Tensor, "b 1 _ _"] | None:
        """Where pixels may change, in the size of the images, padded like them; None for everywhere."""
        file, factor = self.request.mask, self.vae.factor
        height, width = -x.shape[-2] % factor, -x.shape[-1] % factor
        if not (file or height or width):
            return None
        if file:
            _check_shape(file, x)
        mask = (_fitted(file, x)[:, :1] > 0.5).to(x) if file else torch.ones_like(x[:1, :1])
        # What is padded is cut off again: nothing may be hidden there.
        return F.pad(mask, (0, width, 0, height)).repeat(len(x), 1, 1, 1)

    def _on_levels(self, adversarial: Images, x: Images) -> Images:
        """The nearest grey levels; where rounding has left an ℓ2 ball, those of a smaller perturbation."""
        rounded, eps = to_levels(adversarial).float() / 255, self.ball.eps
        while self.ball.norm == "l2" and eps is not None and bool((outside := self.size(rounded, x) > eps).any()):
            shorter = torch.where(outside, 0.98, 1.0)[:, None, None, None]
            adversarial = x + shorter * (adversarial - x)
            rounded = to_levels(adversarial).float() / 255
        return rounded

    def size(self, adversarial: Images, x: Images) -> Float[Tensor, " b"]:
        """How large the perturbations are, in the norm of the budget."""
        delta = (adversarial - x).flatten(1)
        return delta.norm(dim=1) if self.ball.norm == "l2" else delta.abs().amax(1)


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
