"""Train the bundled VAE `tiny` from scratch: AutoencoderKL, factor 8, 4 latent channels, for 128-pixel photographs.

    python recipes/tiny_vae.py --images caltech101-128/train --out runs/tiny
    python recipes/tiny_vae.py --images caltech101-128/train --out runs/tiny --export src/srlvae/zoo/tiny-sd/vae
    python recipes/tiny_vae.py --images caltech101-128/test --score results/tiny.json

The first command trains and resumes by itself where it was stopped (78 minutes of one to two cores); the second writes the
averaged weights as float16; the third measures the bundled weights.
Two phases share one cosine: *crops* trains everything on 64-pixel crops (four times as many steps a second as on whole
images); *whole* freezes the encoder and fits the decoder to whole images, as Stable Diffusion's fine-tuned decoders were.

Loss: L1 + MSE + 0.02 · feature distance (EfficientNet-Lite0) + 3e-4 · KL (nats per latent dimension).
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from PIL import Image
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from srlvae.files import write_json
from srlvae.images import find_images, read_square
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.features import load_features
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.models.vae import load_vae
from srlvae.provenance import environment
from srlvae.training.checkpoint import load_checkpoint, save_checkpoint
from srlvae.training.schedule import update_average, warm_cosine

STEPS_CROPS, STEPS_WHOLE, WARMUP = 10_000, 1_500, 200
BATCH_CROPS, BATCH_WHOLE, CROP = 16, 8, 64
LR, CLIP, EMA = 1e-3, 1.0, 0.999
SAVE_EVERY = 500
W_FEATURES, W_KL = 0.02, 3e-4


def build_vae() -> AutoencoderKL:
    blocks = 4
    return AutoencoderKL(
        block_out_channels=(32, 64, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=128,
    )


def load_photographs(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All images below `folder`, uint8 `n 3 128 128`: (training, validation), every 40th for validation."""
    paths = sorted(folder.rglob("*.jpg"))
    if not paths:
        raise SystemExit(f"no .jpg below {folder}")
    photographs = torch.from_numpy(np.stack([np.asarray(Image.open(p).convert("RGB")) for p in paths]))
    photographs = photographs.permute(0, 3, 1, 2)
    held_out = torch.arange(len(paths)) % 40 == 0
    return photographs[~held_out], photographs[held_out]


def batch_at(step: int, photographs: torch.Tensor, seed: int) -> torch.Tensor:
    """The batch of a step is a function of (seed, step), so a resumed run sees what an uninterrupted one does."""
    rng = np.random.default_rng((seed, step))
    whole = step >= STEPS_CROPS
    batch = photographs[rng.integers(len(photographs), size=BATCH_WHOLE if whole else BATCH_CROPS)]
    if not whole:
        tops, lefts = rng.integers(128 - CROP + 1, size=(2, len(batch)))
        batch = torch.stack([b[:, i : i + CROP, j : j + CROP] for b, i, j in zip(batch, tops, lefts, strict=True)])
    flip = torch.from_numpy(rng.random(len(batch)) < 0.5)[:, None, None, None]
    return torch.where(flip, batch.flip(-1), batch).float() / 255


def loss_of(vae, features, x: torch.Tensor, step: int, seed: int) -> tuple[torch.Tensor, dict[str, float]]:
    whole = step >= STEPS_CROPS
    with torch.autocast(x.device.type, torch.bfloat16):
        with torch.set_grad_enabled(not whole):
            posterior = vae.encode(x * 2 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed * 10**7 + step))
        y = vae.decode(posterior.mean + posterior.std * noise).sample
    y = (y.float() + 1) / 2
    l1, mse = (y - x).abs().mean(), F.mse_loss(y, x)
    distance = feature_distance(features.columns(y), features.columns(x)).mean()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    loss = l1 + mse + W_FEATURES * distance + (0 if whole else W_KL) * kl
    return loss, {"l1": l1.item(), "mse": mse.item(), "features": distance.item(), "kl": kl.item()}


@torch.no_grad()
def validate(vae, photographs: torch.Tensor) -> dict[str, float]:
    vae.eval()
    psnr, latents = [], []
    for batch in photographs.split(16):
        x = batch.float() / 255
        z = vae.encode(x * 2 - 1).latent_dist.mean
        y = ((vae.decode(z).sample + 1) / 2).clamp(0, 1)
        psnr.append(-10 * (y - x).square().mean((1, 2, 3)).log10())
        latents.append(z)
    vae.train()
    return {"psnr": torch.cat(psnr).mean().item(), "latent_std": torch.cat(latents).std().item()}


def train(images: Path, out: Path, seed: int) -> None:
    torch.manual_seed(seed)
    photographs, held_out = load_photographs(images)
    features = load_features("efficientnet-lite0")
    vae = build_vae().to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(vae).requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LR, weight_decay=1e-4)
    state = out / "checkpoint.safetensors"
    step = load_checkpoint(state, {"vae": vae, "average": average}, optimizer)["step"] if state.exists() else 0
    board, started = SummaryWriter(str(out / "log")), time.time()
    while step < STEPS_CROPS + STEPS_WHOLE:
        if step == STEPS_CROPS:
            vae.load_state_dict(average.state_dict())
        for module in (vae.encoder, vae.quant_conv):
            module.requires_grad_(step < STEPS_CROPS)
        for group in optimizer.param_groups:
            group["lr"] = LR * warm_cosine(step, STEPS_CROPS + STEPS_WHOLE, WARMUP)
        loss, parts = loss_of(vae, features, batch_at(step, photographs, seed), step, seed)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), CLIP)
        optimizer.step()
        step += 1
        update_average(average.parameters(), vae.parameters(), step, EMA)
        for name, value in parts.items():
            board.add_scalar(f"train/{name}", value, step)
        if step % SAVE_EVERY == 0:
            scores = validate(average, held_out)
            for name, value in scores.items():
                board.add_scalar(f"held out/{name}", value, step)
            save_checkpoint(state, {"vae": vae, "average": average}, optimizer, {"step": step})
            print(step, f"{(time.time() - started) / 60:.1f} min", parts, scores, flush=True)


def export(images: Path, run: Path, target: Path) -> None:
    """The averaged weights, with the scaling factor that gives training latents unit variance."""
    vae = build_vae()
    load_checkpoint(run / "checkpoint.safetensors", {"average": vae}, None)
    photographs, _ = load_photographs(images)
    std = validate(vae, photographs[:1024])["latent_std"]
    vae.register_to_config(scaling_factor=round(1 / std, 4))
    vae.half().save_pretrained(target)


@torch.no_grad()
def measure(images: Path, result: Path) -> None:
    """Reconstruction scores of the bundled weights on all photographs below `images`."""
    vae, paths = load_vae("tiny"), find_images(images)
    x = torch.stack([read_square(path, 128) for path in paths])
    y = torch.cat([vae.reconstruct(part) for part in x.split(16)])
    measured = {"psnr": psnr(y, x), "ssim": ssim(y, x)}
    for name in ("efficientnet-lite0", "efficientnet-lite1"):
        net = load_features(name)
        pairs = zip(x.split(16), y.split(16), strict=True)
        measured[f"{name}_distance"] = torch.cat([feature_distance(net.columns(a), net.columns(b)) for a, b in pairs])
    scores: dict = {"vae": vae.fingerprint(), "n": len(x), "versions": environment()}
    for name, values in measured.items():
        interval = bootstrap_interval(values, torch.Generator().manual_seed(0))
        scores |= {name: values.mean().item(), f"{name}_interval": interval}
    write_json(result, scores)


def main(
    images: Annotated[Path, typer.Option(help="A folder of images of 128 x 128 pixels, at any depth.")],
    out: Annotated[Path, typer.Option(help="Checkpoints and the TensorBoard log.")] = Path("runs/tiny"),
    export_to: Annotated[Path | None, typer.Option("--export", help="Write float16 weights here instead.")] = None,
    score: Annotated[Path | None, typer.Option(help="Measure the bundled weights and write this JSON instead.")] = None,
    seed: int = 0,
) -> None:
    if score:
        measure(images, score)
    elif export_to:
        export(images, out, export_to)
    else:
        train(images, out, seed)


if __name__ == "__main__":
    typer.run(main)
