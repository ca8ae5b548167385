"""Attacks in batches and one by one, beside plain writings-out of the published loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.papers.mist import texture
from srlvae.images import Images, pad_to_multiple
from srlvae.models.vae import VAE
from srlvae.rng import generators
from srlvae.speed.rounds import Work


def attack_works(vae: VAE, x: Images, steps: int) -> list[Work]:
    """PhotoGuard's encoder attack and Mist's textural one beside their loops, and an attack that goes through the decoder."""
    x = pad_to_multiple(x, vae.factor)
    published = {"photoguard-encoder": photoguard, "mist-textural": mist}
    return [_work(name, vae, x, steps, published.get(name)) for name in (*published, "reconstruction")]


def _work(name: str, vae: VAE, x: Images, steps: int, published: Callable[[Tensor, VAE, Ball], Tensor] | None) -> Work:
    attack = ATTACKS[name]
    ball = replace(attack.default.ball, steps=steps)

    def together() -> Tensor:
        return attack.run(x, vae=vae, generators=generators(0, range(len(x))), ball=ball)

    def alone() -> Tensor:
        return torch.cat([attack.run(x[[i]], vae=vae, generators=generators(0, [i]), ball=ball) for i in range(len(x))])

    ways: dict[str, Callable[[], object]] = {f"a batch of {len(x)}": together, "one by one": alone}
    if published is not None:
        loop = published
        ways["the published loop"] = lambda: torch.cat([loop(image, vae, ball) for image in x.split(1)])
    return Work(f"{name}, {steps} steps", len(x), ways, list(ways)[-1], name, f"{(ball.eps or 0) * 255:.4g}/255")


def photoguard(x: Float[Tensor, "1 3 h w"], vae: VAE, ball: Ball) -> Float[Tensor, "1 3 h w"]:
    """PhotoGuard's encoder attack as its notebook writes it (github.com/MadryLab/photoguard, MIT): one image on [-1,1]."""

    def loss(adversarial: Tensor) -> Tensor:
        return _latent(vae, adversarial).norm()

    return _descent(x, ball, loss, lambda i: ball.step_size * (1 - 0.99 * i / ball.steps))


def mist(x: Float[Tensor, "1 3 h w"], vae: VAE, ball: Ball) -> Float[Tensor, "1 3 h w"]:
    """Mist's textural attack as its code writes it (github.com/mist-project/mist, version 1): one image on [-1,1]."""
    with torch.no_grad():
        target = _latent(vae, texture(*x.shape[2:]).to(x) * 2 - 1)

    def loss(adversarial: Tensor) -> Tensor:
        return (_latent(vae, adversarial) - target).square().sum()

    return _descent(x, ball, loss, lambda i: ball.step_size)


def _latent(vae: VAE, x: Tensor) -> Tensor:
    """The latent of an image on [-1,1]: the mean of a posterior, or all that a VAE without one has."""
    return vae.mean_unchecked((x + 1) / 2)


def _descent(x: Tensor, ball: Ball, loss: Callable[[Tensor], Tensor], size: Callable[[int], float]) -> Tensor:
    """Signed steps against the gradient, without a best iterate and in the default layout. Sizes are in [0,1] units."""
    x, eps = x * 2 - 1, 2 * (ball.eps or 0.0)
    adversarial = (x + (torch.rand_like(x) * 2 - 1) * eps).clamp(-1, 1)
    for i in range(ball.steps):
        adversarial = adversarial.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(adversarial), adversarial)
        adversarial = adversarial - gradient.sign() * 2 * size(i)
        adversarial = torch.maximum(torch.minimum(adversarial, x + eps), x - eps).clamp(-1, 1)
    return (adversarial.detach() + 1) / 2
