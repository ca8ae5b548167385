"""The posterior's variance: which weights make it, and how to hold it constant.

Callers draw latents from the posterior, so its log-variance is part of what `encode` returns. Training cannot bound it on every
image. Weights of zero can: the log-variance is then the bias, whatever the image.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.models.autoencoder import VAE


def variance_head(vae: VAE) -> nn.Conv2d | nn.Conv3d | None:
    """The convolution whose last rows make the log-variance, or None for a model without a posterior.

    This is `quant_conv`, or the encoder's last convolution if there is no `quant_conv`. Raises InputError if neither makes
    twice as many channels as a latent has.
    """
    if not vae.has_posterior:
        return None
    head = getattr(vae.model, "quant_conv", None) or getattr(vae.model.encoder, "conv_out", None)
    if not isinstance(head, nn.Conv2d | nn.Conv3d) or head.out_channels != 2 * vae.channels or head.bias is None:
        raise InputError(f"{type(vae.model).__name__} makes its log-variance in a way that is not known, so it cannot be held")
    return head


@torch.no_grad()
def mean_log_variance(vae: VAE, x: Images, at_once: int = 8) -> Float[Tensor, " c"]:
    """The logarithm of the mean variance of each latent channel over the images `x`, so that noise of it has the same energy.

    `at_once` images are encoded at a time; the result does not depend on it.
    """
    variances = [vae.posterior(part)[1].exp().mean((0, 2, 3)) * len(part) for part in x.split(at_once)]
    return (torch.stack(variances).sum(0) / len(x)).log()


@torch.no_grad()
def hold_variance(vae: VAE, log_variance: Float[Tensor, " c"]) -> None:
    """Make the log-variance of `vae` the constant `log_variance`, one number for each channel, whatever the image.

    Raises InputError for a model whose log-variance does not come from its head alone.
    """
    head = variance_head(vae)
    assert head is not None and head.bias is not None
    head.weight[vae.channels :] = 0
    head.bias[vae.channels :] = log_variance.to(head.bias)
    if not variance_is_held(vae):
        raise InputError(f"{type(vae.model).__name__} adds to its log-variance in an unknown way, so it cannot be held")


@torch.no_grad()
def variance_is_held(vae: VAE) -> bool:
    """Whether no image can change the variance of `vae`. This is true of a model without a posterior."""
    if not vae.has_posterior:
        return True
    # Two images tell where weights do not: some models add to what the head makes.
    black = torch.zeros(1, 3, 8 * vae.factor, 8 * vae.factor, device=vae.device)
    found = [vae.posterior(x)[1] for x in (black, torch.linspace(0, 1, black.numel(), device=vae.device).view_as(black))]
    head = variance_head(vae)
    return head is not None and not head.weight[vae.channels :].any() and torch.equal(*(one.nan_to_num() for one in found))
