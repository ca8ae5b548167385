"""Sharpen the decoder of the bundled VAE `tiny`: encoder and latents stay, so what was trained on them does.

    python recipes/tiny_decoder.py --images caltech101-128/train --out runs/tiny-decoder
    python recipes/tiny_decoder.py --images caltech101-128/train --out runs/tiny-decoder --export src/srlvae/zoo/tiny-sd/vae

The first command trains and resumes by itself where it was stopped (about an hour of a core), with a sheet of photographs in
the folder: as they are, decoded before, decoded after. The second writes the averaged decoder into the bundled VAE.
Afterwards `tiny_vae.py --score` measures the VAE and `tiny_sd_score.py` the pipeline around it.

Squared error alone decodes the mean of all pictures that a latent may stand for, which is soft. Loss: L1 + MSE + 0.1 ·
feature distance (EfficientNet-Lite0), and a patch discriminator's hinge loss (Isola et al. 2017, arXiv 1611.07004) whose
weight keeps its gradient at a share of the others' at the decoder's last layer (Esser et al. 2021, arXiv 2012.09841, eq. 7).
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from srlvae.images import tile, write_image
from srlvae.metrics.features import Features, load_features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.pairwise import feature_distance, psnr
from srlvae.models.vae import VAE, load_vae
from srlvae.training.checkpoint import load_checkpoint, save_checkpoint
from srlvae.training.schedule import update_average, warm_cosine
from tiny_vae import load_photographs

STEPS, BATCH, WARMUP, LR, EMA = 4000, 8, 100, 2e-4, 0.998
# The discriminator learns alone for so many steps; then its gradient is ADVERSARIAL of the others'.
ALONE, ADVERSARIAL, W_FEATURES = 200, 0.3, 0.1
SAVE_EVERY = 250


def build_discriminator() -> nn.Sequential:
    """Images `b 3 h w` → a score for every patch of 46 pixels, `b 1 h/8 w/8`."""
    widths, layers = (3, 48, 96, 192), []
    for inner, outer in zip(widths, widths[1:], strict=False):
        layers += [spectral_norm(nn.Conv2d(inner, outer, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))


def trained(model: AutoencoderKL) -> nn.ModuleDict:
    return nn.ModuleDict({"decoder": model.decoder, "post_quant_conv": model.post_quant_conv})


def batch_at(step: int, photographs: Tensor, seed: int) -> Tensor:
    """Whole photographs, half of them mirrored: a function of (seed, step)."""
    rng = np.random.default_rng((seed, step))
    x = photographs[rng.integers(len(photographs), size=BATCH)]
    mirrored = torch.from_numpy(rng.random(BATCH) < 0.5)[:, None, None, None]
    return torch.where(mirrored, x.flip(-1), x).float() / 255


def step_loss(vae: VAE, critic: nn.Module, features: Features, x: Tensor, step: int, seed: int) -> tuple[Tensor, Tensor, dict]:
    """Losses of the decoder and of the discriminator, and their parts."""
    with torch.autocast("cpu", torch.bfloat16):
        draw = torch.Generator().manual_seed(seed * 10**7 + step)
        with torch.no_grad():
            mean, log_variance = vae.posterior(x)
            z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=draw)
        y = vae.decode(z)
        real, fake = critic(x), critic(y.detach())
        judged = critic(y)
        distance = feature_distance(features.columns(y), features.columns(x)).mean()
    y = y.float()
    like = (y - x).abs().mean() + F.mse_loss(y, x) + W_FEATURES * distance
    hinge = F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()
    fooling = -judged.float().mean()
    model: AutoencoderKL = vae.model
    last = model.decoder.conv_out.weight
    share = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (like, fooling)]
    weight = ADVERSARIAL * (share[0] / (share[1] + 1e-6)).clamp(max=100) * (step >= ALONE)
    parts = {"like": like.item(), "distance": distance.item(), "hinge": hinge.item(), "weight": weight.item()}
    return like + weight * fooling, hinge, parts


@torch.no_grad()
def validate(vae: VAE, photographs: Tensor, features: Features) -> dict[str, float]:
    """Scores on photographs set apart, by a network that the loss does not use: decibels, distance and Fréchet distance."""
    found: dict[str, list[Tensor]] = {"psnr": [], "distance": [], "real": [], "decoded": []}
    for part in photographs.split(16):
        x = part.float() / 255
        y = vae.reconstruct(x)
        found["psnr"].append(psnr(y, x))
        found["distance"].append(feature_distance(features.columns(y), features.columns(x)))
        found["real"].append(features.pooled(x))
        found["decoded"].append(features.pooled(y))
    psnrs, distances, real, decoded = (torch.cat(values) for values in found.values())
    frechet = frechet_distance(real.double(), decoded.double())
    return {"psnr": psnrs.mean().item(), "distance": distances.mean().item(), "frechet": float(frechet), "n": len(real)}


def train(images: Path, out: Path, seed: int) -> None:
    torch.manual_seed(seed)
    photographs, held_out = load_photographs(images)
    network, judge = load_features("efficientnet-lite0"), load_features("efficientnet-lite1")
    before = load_vae("tiny")
    vae = VAE(copy.deepcopy(before.model))
    vae.model.to(memory_format=torch.channels_last)
    decoder, critic = trained(vae.model).requires_grad_(True), build_discriminator().to(memory_format=torch.channels_last)
    after = VAE(copy.deepcopy(vae.model).requires_grad_(False))
    average = trained(after.model)
    # One optimiser, so that one checkpoint holds both; each side has its own loss and gradients.
    optimizer = torch.optim.AdamW([*decoder.parameters(), *critic.parameters()], lr=LR, betas=(0.5, 0.9), weight_decay=0)
    modules = {"decoder": decoder, "critic": critic, "average": average}
    state = out / "checkpoint.safetensors"
    step = load_checkpoint(state, modules, optimizer)["step"] if state.exists() else 0
    started = time.time()
    if not step:
        print(0, validate(before, held_out, judge), flush=True)
    while step < STEPS:
        for group in optimizer.param_groups:
            group["lr"] = LR * warm_cosine(step, STEPS, WARMUP)
        x = batch_at(step, photographs, seed).contiguous(memory_format=torch.channels_last)
        loss, hinge, parts = step_loss(vae, critic, network, x, step, seed)
        optimizer.zero_grad()
        for own, parameters in ((loss, decoder.parameters()), (hinge, critic.parameters())):
            parameters = list(parameters)
            gradients = torch.autograd.grad(own, parameters, retain_graph=own is loss)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        update_average(average.parameters(), decoder.parameters(), step, EMA)
        if step % SAVE_EVERY == 0:
            save_checkpoint(state, modules, optimizer, {"step": step})
            minutes = f"{(time.time() - started) / 60:.1f} min"
            print(step, minutes, json.dumps(parts), validate(after, held_out, judge), flush=True)
            write_sheet(out / "sheet.webp", held_out[::15][:10], before, after)


@torch.no_grad()
def write_sheet(path: Path, photographs: Tensor, before: VAE, after: VAE) -> None:
    x = photographs.float() / 255
    columns = (x, before.reconstruct(x), after.reconstruct(x))
    write_image(path, tile(list(zip(*columns, strict=True)), ["photograph", "before", "after"]))


def export(run: Path, target: Path) -> None:
    """The averaged decoder in float16, beside the encoder that is there."""
    model = AutoencoderKL.from_pretrained(target, torch_dtype=torch.float16)
    load_checkpoint(run / "checkpoint.safetensors", {"average": trained(model)}, None)
    VAE(model).save(target)


def main(
    images: Annotated[Path, typer.Option(help="A folder of images of 128 x 128 pixels, at any depth.")],
    out: Annotated[Path, typer.Option(help="Checkpoint and sheet.")] = Path("runs/tiny-decoder"),
    export_to: Annotated[Path | None, typer.Option("--export", help="Write float16 weights into this VAE instead.")] = None,
    seed: int = 0,
) -> None:
    if export_to:
        export(out, export_to)
    else:
        train(images, out, seed)


if __name__ == "__main__":
    typer.run(main)
