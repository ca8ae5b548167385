"""An attack made ready on a model: what every batch of a run has in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.perceptual import NETWORK
from srlvae.attacks.engine.pgd import Loop, size_of
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.engine.views import SAMPLING, VIEWS
from srlvae.attacks.pictures import padded_mask, padded_target
from srlvae.attacks.request import Request
from srlvae.attacks.through import Knowledge
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import Images, digest_of_picture, pad_to_multiple, to_levels
from srlvae.metrics.features import Features, load_features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, load_vae
from srlvae.precision import computing, settled
from srlvae.rng import Generators, named_generator


def prepare(request: Request, model: VAE | Pipeline) -> PreparedAttack:
    """Make a request ready on a model.

    A pipeline's safety checker is left out: an attack would take a target that was blacked out for the picture that it wants.

    Raises InputError if the attack needs a pipeline and the model is a VAE, for a second VAE of another factor, for draws of a
    posterior that a VAE does not have, and for a network of a perceptual budget that gives no feature maps.
    """
    if request.attack.needs == "pipeline" and not isinstance(model, Pipeline):
        raise InputError(f"{request.name} attacks a whole pipeline; give one with --pipeline")
    network = load_features(request.features).to(model.device) if request.features else None
    if network and not network.gives_columns:
        raise InputError(f"{network.name} gives no feature maps, which a perceptual budget needs; take another as --features")
    model = model.without_safety_checker() if isinstance(model, Pipeline) else model
    attack = PreparedAttack(request, model, network, (load_vae(request.also, model.device),) if request.also else ())
    if request.through == SAMPLING and not all(vae.has_posterior for vae in (attack.vae, *attack.also)):
        raise InputError(f"this VAE has no posterior to draw from; leave out --through {SAMPLING}")
    return attack


@dataclass(frozen=True)
class PreparedAttack:
    """A request on one model, with the network of its perceptual budget. Attacks on a VAE take that of a pipeline.

    also: further VAEs on which the objective is added. Raises InputError if one reduces images by another factor.
    knows: what the attack knows of a defence, in place of the request's view.
    """

    request: Request
    model: VAE | Pipeline
    features: Features | None = None
    also: tuple[VAE, ...] = ()
    knows: Knowledge | None = None

    def __post_init__(self):
        for vae in self.also:
            if vae.factor != self.vae.factor:
                raise InputError(
                    f"the second VAE reduces images by {vae.factor} and the first by {self.vae.factor}; "
                    "both have to take images of the same sizes"
                )

    @property
    def vae(self) -> VAE:
        """The VAE that is attacked."""
        return self.model.vae if isinstance(self.model, Pipeline) else self.model

    @property
    def ball(self) -> Ball:
        """The budget: whole grey levels for ℓ∞, since one between two levels would be rounded up on the file.

        A published perceptual budget is one in LPIPS, whose scale is not that of other distances. Where LPIPS is not given and
        there is a radius, the radius alone holds.
        """
        ball = self.request.changed.ball
        if ball.eps is None or ball.norm != "linf":
            return ball
        perceptual = ball.perceptual if self.features else None
        return replace(ball, eps=math.floor(ball.eps * 255 + 1e-6) / 255, perceptual=perceptual)

    def settings(self) -> dict[str, Any]:
        """What the images depend on, as it is written beside them."""
        request, preset = self.request, self.request.changed
        ball = replace(preset.ball, perceptual=self.ball.perceptual)
        said = {"attack": request.name, "vae": self.vae.fingerprint(), **asdict(ball), "eps": ball.radius}
        said["sampling"] = (self.model if request.attack.needs == "pipeline" else self.vae).settings()
        said |= {"options": dict(preset.options), "restarts": preset.restarts, "repeats": preset.repeats, "seed": request.seed}
        if request.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            said |= {"pipeline": str(self.model.pipe.config.get("_name_or_path")), "networks": self.model.fingerprint()}
        if request.through:
            said |= {"through": request.through, "draws": request.drawn}
        if (precision := settled(request.precision, self.vae.device)) != "no":
            said["precision"] = precision
        if self.knows:
            said |= self.knows.settings()
        if self.also:
            said["also"] = [{"vae": vae.fingerprint(), **vae.settings()} for vae in self.also]
        if self.features or ball.perceptual:
            said["features"] = self.features.name if self.features else f"{NETWORK}, whose scale is not that of LPIPS"
        pictures = {key: path for key, path in (("target", request.target), ("mask", request.mask)) if path}
        return said | {key: f"{path} {digest_of_picture(path)}" for key, path in pictures.items()}

    def made_from(self) -> dict[str, Any]:
        """The settings without the place of the pipeline, so that the same weights in another folder give the same images."""
        return {key: value for key, value in self.settings().items() if key != "pipeline"}

    def perturb(self, x: Images, names: Sequence[str], watch: Trace | None = None) -> Images:
        """Attack images of any size. Returns whole grey levels within the budget, which counts from the nearest levels of `x`.

        `names` are those of the images: each has a generator of its own, seeded by its name, on the CPU, so that an image comes
        out the same on every device, but for the order of sums.
        """
        if self.request.attack.alone and len(x) > 1:
            return self._one_by_one(x, names, watch)
        x = to_levels(x).to(x) / 255
        preset, factor = self.request.changed, self.vae.factor
        draws = [named_generator(self.request.seed, name) for name in names]
        loop = self._loop(x, draws, watch)
        if watch:
            watch.starts = loop.restarts
        given = {"ball": self.ball, "generators": draws, "loop": loop}
        with computing(settled(self.request.precision, self.vae.device), self.vae.device):
            padded = pad_to_multiple(x, factor)
            adversarial = self.request.attack.run(padded, **self._model(), **given, **{**preset.options, **self._given(x)})
        return self._on_levels(adversarial[..., : x.shape[-2], : x.shape[-1]], x)

    def _model(self) -> dict[str, Any]:
        """What the attack runs on, by the name of its argument."""
        if self.request.attack.needs == "pipeline":
            return {"pipeline": self.model}
        return {"vae": (self.vae, *self.also) if self.also else self.vae}

    def _one_by_one(self, x: Images, names: Sequence[str], watch: Trace | None) -> Images:
        """Attack images whose networks would not fit into memory together."""
        traces = [Trace(watch.stepped) if watch else None for _ in names]
        parts = zip(x.split(1), names, traces, strict=True)
        found = torch.cat([self.perturb(image, [name], trace) for image, name, trace in parts])
        if watch:
            watch.join([trace for trace in traces if trace])
        return found

    def follow(self, listener: Listener) -> Trace:
        """A trace that tells the listener of every step. At its wish to stop, the step raises KeyboardInterrupt."""
        total = self.ball.steps * self.request.changed.restarts * self.request.attack.searches

        def stepped(step: int, objective: float | None) -> None:
            listener.at("steps", step, total, "" if objective is None else f"objective {objective:.4g}")
            listener.check()

        return Trace(stepped)

    def _loop(self, x: Images, draws: Generators, watch: Trace | None) -> Loop:
        preset, through = self.request.changed, self.request.through
        loop = Loop(
            mask=padded_mask(self.request.mask, x, self.vae.factor),
            restarts=preset.restarts,
            repeats=preset.repeats,
            watch=watch,
        )
        if self.knows:
            return self.knows.used(loop, x, draws)
        if through is None:
            return loop
        view = None if through == SAMPLING else VIEWS[through](draws)
        return replace(loop, view=view, repeats=max(loop.repeats, self.request.drawn))

    def _given(self, x: Images) -> dict[str, Any]:
        """What the request adds to the options of the preset; the target in the size of the images, padded like them."""
        given: dict[str, Any] = {"features": self.features} if self.features else {}
        if self.request.through == SAMPLING:
            given["sampled"] = True
        if self.request.target:
            given["target"] = padded_target(self.request.target, x, self.vae.factor)
        return given

    def _on_levels(self, adversarial: Images, x: Images) -> Images:
        """The nearest grey levels; where rounding has left a ball of another norm than ℓ∞, those of a smaller perturbation."""
        rounded, eps = to_levels(adversarial).float() / 255, self.ball.eps
        while self.ball.norm != "linf" and eps is not None and bool((outside := self.size(rounded, x) > eps).any()):
            shorter = torch.where(outside, 0.98, 1.0)[:, None, None, None]
            adversarial = x + shorter * (adversarial - x)
            rounded = to_levels(adversarial).float() / 255
        return rounded

    def keeps_budget(self, adversarial: Float[Tensor, "3 _ _"], x: Float[Tensor, "3 _ _"]) -> bool:
        """Whether an attacked image is as large as the image `x`, and within the budget of it."""
        eps, same = self.request.changed.ball.eps, adversarial.shape == x.shape
        return same and (eps is None or self.size(adversarial[None], x[None]).item() <= eps + 1e-6)

    def size(self, adversarial: Images, x: Images) -> Float[Tensor, " b"]:
        """How large the perturbations are, in the norm of the budget."""
        return size_of(adversarial - x, self.ball.norm)
