"""DiffusionGuard: make the first noise prediction of an edit large, for masks other than the one that was foreseen.

Choi et al. 2024 (arXiv 2410.05694), eq. 4: max over δ of ‖U(z_T, T, c)‖ at the first step of denoising, over masks that are
shrunk at random. U is what the network predicts. In the paper that is noise; of a network that predicts v, such as tiny-sd's,
the norm is that of v, which throws edits off further than that of the noise it amounts to.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Mask, Objective, pgd
from srlvae.images import Images
from srlvae.models.denoising import timesteps
from srlvae.models.inpainting import inpainting_input
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators, normal_like

# Of a side, by how much a mask may shrink.
SHRINK = 0.1


def shrink_mask(mask: Mask, generators: Generators) -> Mask:
    """The region that is 1, its border moved inwards by a random width of up to a tenth of the side."""
    shrunk = []
    for row, g in zip(mask, generators, strict=True):
        width = int(torch.randint(int(SHRINK * mask.shape[-1]) + 1, (), generator=g, device=g.device))
        # A square's maximum, along one side and then the other: at 512 pixels a twentieth of the time.
        grown = F.max_pool2d(1 - row[None], (2 * width + 1, 1), stride=1, padding=(width, 0))
        shrunk.append(1 - F.max_pool2d(grown, (1, 2 * width + 1), stride=1, padding=(0, width)))
    return torch.cat(shrunk)


def first_step_objective(
    pipeline: Pipeline,
    prompt: str,
    generators: Generators,
    *,
    kept: Mask | None,
    strength: float,
    size: tuple[int, int] | None = None,
) -> Objective:
    """x′ ↦ −‖U(z_T, T, c)‖₂ with new noise at every call.

    A UNet made for inpainting starts from noise and sees what is `kept` (1) of the image, shrunk at random; any other from the
    image's latent, noised to the first step of an edit of `strength`. size: what SDXL is told.
    """
    conditioning = pipeline.condition([prompt] * len(generators), size)
    scheduler, times = timesteps(pipeline, 50, 1.0 if pipeline.inpaints else strength)
    first = times[:1]

    def objective(adversarial: Images):
        vae = pipeline.vae
        if pipeline.inpaints:
            mask = torch.ones_like(adversarial[:, :1]) if kept is None else shrink_mask(kept, generators)
            seen = inpainting_input(pipeline, adversarial, 1 - mask)
            z = normal_like(seen[:, 1:], generators)
        else:
            scaled, seen = vae.to_scaled(vae.mean(adversarial)), None
            z = scheduler.add_noise(scaled, normal_like(scaled, generators), first)
        return -pipeline.predict(z, first, conditioning, seen).flatten(1).norm(dim=1)

    return objective


def diffusionguard(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "",
    strength: float = 0.5,
    loop: Loop | None = None,
) -> Images:
    """Attacked images that throw off the first step of an edit. `mask` is 1 where an inpainter keeps the image."""
    objective = first_step_objective(
        pipeline, prompt, generators, kept=loop.mask if loop else None, strength=strength, size=(x.shape[-2], x.shape[-1])
    )
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)
