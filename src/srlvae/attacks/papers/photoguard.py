"""PhotoGuard: immunise a photograph against edits, through the encoder alone or through the whole edit.

Salman et al. 2023 (arXiv 2302.06588). Encoder attack, eq. 3: min over δ of ‖E(x+δ) − t‖₂. Diffusion attack, eq. 4: min over δ
of ‖edit(x+δ) − target‖₂, the gradient taken through a few denoising steps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Mask, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.views import Encode, encoder
from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.models.denoising import image_to_image
from srlvae.models.edit_settings import EditSettings, steps_run
from srlvae.models.inpainting import inpaint
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators, normal_like


def photoguard_encoder_objective(vae: VAE, target: Latents | float = 0.0, encode: Encode | None = None) -> Objective:
    """x′ ↦ ‖E(x′) − target‖₂ over the unscaled latent. encode: E of the attacked images, the mean by default."""
    encode = encode or vae.mean

    def objective(adversarial: Images):
        return (encode(adversarial) - target).flatten(1).norm(dim=1)

    return objective


def photoguard_encoder(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators | None = None,
    target: Float[Tensor, "#b 3 h w"] | None = None,
    grey: bool = False,
    sampled: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with the latent of `target` (`b 3 h w` or `1 3 h w`), of a mid-grey image, or the zero latent.

    Zero is what the paper's code takes for image-to-image, grey its app.
    sampled: attack draws from the posterior in place of its mean, see `repeats` of `Loop`; wants generators.
    """
    if grey and target is None:
        target = torch.full_like(x[:1], 0.5)

    def objective(of: VAE) -> Objective:
        goal = 0.0 if target is None else of.mean(target).detach()
        return photoguard_encoder_objective(of, goal, encoder(of, generators or (), sampled))

    return pgd(x, summed(objective, vae), ball, generators=generators, loop=loop, keep_best=False if sampled else None)


# The edit that the published attack goes back through: four steps, from half of the noise.
EDIT = EditSettings(strength=0.5, steps=8, guidance=7.5)


def photoguard_diffusion_objective(
    pipeline: Pipeline,
    prompt: str,
    target: Float[Tensor, "#b 3 h w"],
    generators: Generators,
    *,
    repaint: Mask | None = None,
    edit: EditSettings = EDIT,
) -> Objective:
    """x′ ↦ ‖edit(x′) − target‖₂ with new noise at every call, η 1; the edit repaints where `repaint` is 1, or everything.

    A repainting starts from noise alone and runs as many steps.
    """
    count, run = len(generators), steps_run(edit.steps, edit.strength)
    conditioning = pipeline.condition([prompt] * count, (target.shape[-2], target.shape[-1]))
    settings = edit if repaint is None else replace(edit, strength=1.0, steps=run)
    vae = pipeline.vae
    z = target.new_empty(count, vae.channels, target.shape[-2] // vae.factor, target.shape[-1] // vae.factor)

    def objective(adversarial: Images):
        draws = [normal_like(z, generators) for _ in range(1 + run)]
        if repaint is None:
            y = image_to_image(pipeline, adversarial, conditioning, draws[0], settings, draws[1:])
        else:
            y = inpaint(pipeline, adversarial, repaint, conditioning, draws[0], settings, draws[1:])
        return (y - target).flatten(1).norm(dim=1)

    return objective


def photoguard_diffusion(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    inpaint: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose edits come out like `target`, or mid-grey, which the paper gives as an example.

    inpaint: the edit repaints where `mask` is 0 and sees the rest, which may be perturbed; else it is image-to-image.
    Raises InputError for inpainting without a mask.
    """
    mask = loop.mask if loop else None
    if inpaint and mask is None:
        raise InputError("inpainting needs a mask: 1 where the photograph is kept and may be perturbed")
    target = torch.full_like(x[:1], 0.5) if target is None else target
    repaint = 1 - mask if inpaint and mask is not None else None
    objective = photoguard_diffusion_objective(pipeline, prompt, target, generators, repaint=repaint)
    # The notebook's search, in ℓ2, starts at the photograph.
    start = None if ball.norm == "l2" else generators
    return pgd(x, objective, ball, generators=start, loop=loop, keep_best=False)
