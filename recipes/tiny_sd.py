"""Train `tiny-sd`, a Stable Diffusion in miniature: the UNet, between the bundled VAE `tiny` and tiny-clip's text tower.

    python recipes/tiny_sd.py --images caltech101-128/train --out runs/tiny-sd
    python recipes/tiny_sd.py --images caltech101-128/train --out runs/tiny-sd --export src/srlvae/zoo/tiny-sd

The first command trains and resumes by itself where it was stopped; the second writes the whole pipeline as float16. Both
need tiny-clip to be bundled or given as --clip; `tiny_sd_score.py` measures what they made. Latents of several crops of every
photograph, and the embeddings of all captions, are computed once and kept in the folder. Time: eight minutes for those, then
half a second a step of two cores. The bundled weights had four runs: 6,400 steps with mirrored crops and two concepts more
(laptop and minaret, whose photographs are few or turned in black frames), 5,500 steps as below that went on from them with
--begin, 2,400 more with 4e-4 for LR and .998 for EMA (--seed 1), and 2,500 on a GPU (--batch 256 --seed 3).
With --vae madebyollin/taesd --begin src/srlvae/zoo/tiny-sd/unet it makes a pipeline around TAESD.
The UNet predicts v (Salimans and Ho 2022, arXiv 2202.00512) on a schedule whose last step has no signal left (Lin et al. 2023,
arXiv 2305.08891); a tenth of the captions are empty, for guidance.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from transformers import CLIPTextModel

from captions import CONCEPTS, TEMPLATES, load_classes, tokenize, word
from srlvae.devices import default_device, fast_products, onto
from srlvae.metrics.clip import Clip, load_clip
from srlvae.models.vae import VAE, load_vae
from srlvae.precision import computing
from srlvae.rng import generators
from srlvae.training.checkpoint import load_checkpoint, save_checkpoint
from srlvae.training.precision import chosen_precision
from srlvae.training.schedule import update_average, warm_cosine

STEPS, BATCH, WARMUP, LR, EMA = 5500, 32, 200, 6e-4, 0.999
CROPS, EMPTY = 6, 0.1
DEVICE = default_device()
# Without bfloat16 in hardware, autocast to it is slower than float32.
PRECISION = chosen_precision("auto")
SAVE_EVERY = 200
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False,
}  # fmt: skip


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(96, 144, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=8,
        norm_num_groups=16,
    )


@torch.no_grad()
def cached(images: Path, clip: Clip, vae: VAE, file: Path, seed: int) -> dict[str, Tensor]:
    """Scaled latents `n crops 4 16 16` and labels of all photographs, text embeddings `concept template tokens width`."""
    if file.exists():
        return load_file(file)
    names, pixels, labels = load_classes(images, CONCEPTS)
    latents = []
    for i, photograph in enumerate(pixels):
        rng = np.random.default_rng((seed, i))
        x = torch.stack([crop(photograph, rng) for _ in range(CROPS)])
        latents.append(vae.to_scaled(vae.sample(onto(x, DEVICE), generators(seed, range(i * CROPS, (i + 1) * CROPS)))).cpu())
    texts = [template.format(word(name)) for name in names for template in TEMPLATES]
    embeds = embed(clip, [*texts, ""])
    data = {"latents": torch.stack(latents), "labels": labels, "empty": embeds[-1]}
    data["embeds"] = embeds[:-1].unflatten(0, (len(names), len(TEMPLATES))).contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(data, file)
    return data


def embed(clip: Clip, texts: list[str]) -> Tensor:
    return clip.model.text_model(**tokenize(clip.tokenizer, texts).to(DEVICE)).last_hidden_state.cpu()


def crop(photograph: Tensor, rng: np.random.Generator) -> Tensor:
    """A square of 80 to 100 % of the area, in [0,1]; not mirrored, since cars and motorbikes face one way."""
    side = round(128 * np.sqrt(rng.uniform(0.8, 1.0)))
    top, left = rng.integers(129 - side, size=2)
    x = photograph[None, :, top : top + side, left : left + side].float() / 255
    return F.interpolate(x, (128, 128), mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def batch_at(step: int, data: dict[str, Tensor], members: list[np.ndarray], batch: int, seed: int) -> tuple[Tensor, ...]:
    """Latents, embeddings, timesteps and noise of a step: a function of (seed, step), so a resumed run goes on as it was."""
    rng, draw = np.random.default_rng((seed, step)), torch.Generator().manual_seed(seed * 10**7 + step)
    concepts = rng.integers(len(members), size=batch)
    photographs = torch.from_numpy(np.array([rng.choice(members[c]) for c in concepts]))
    z = data["latents"][photographs, torch.from_numpy(rng.integers(CROPS, size=batch))]
    embeds = data["embeds"][torch.from_numpy(concepts), torch.from_numpy(rng.integers(len(TEMPLATES), size=batch))].clone()
    embeds[torch.from_numpy(rng.random(batch) < EMPTY)] = data["empty"]
    t = torch.from_numpy(rng.integers(SCHEDULE["num_train_timesteps"], size=batch))
    return tuple(onto(part, DEVICE) for part in (z, embeds, t, torch.randn(z.shape, generator=draw)))


def loss_of(unet, scheduler: DDPMScheduler, z: Tensor, embeds: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    noisy, target = scheduler.add_noise(z, noise, t), scheduler.get_velocity(z, noise, t)
    with computing(PRECISION, DEVICE):
        output = unet(noisy, t, embeds).sample
    return F.mse_loss(output.float(), target)


def train(images: Path, out: Path, clip: Clip, vae: VAE, begin: Path | None, steps: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    data = cached(images, clip, vae, out / "cache.safetensors", seed)
    members = [np.flatnonzero(data["labels"].numpy() == c) for c in range(len(CONCEPTS))]
    scheduler: DDPMScheduler = DDPMScheduler(**SCHEDULE)
    unet = UNet2DConditionModel.from_pretrained(begin, torch_dtype=torch.float32) if begin else build_unet()
    unet.to(DEVICE, memory_format=torch.channels_last)
    if DEVICE.type == "cpu":  # where the backward pass of plain attention is the faster one
        unet.set_attn_processor(AttnProcessor())
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.01, fused=DEVICE.type == "cuda" or None
    )
    state = out / "checkpoint.safetensors"
    step = load_checkpoint(state, {"unet": unet, "average": average}, optimizer)["step"] if state.exists() else 0
    board, started, recent = SummaryWriter(str(out / "log")), time.time(), []
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = LR * warm_cosine(step, steps, WARMUP)
        loss = loss_of(unet, scheduler, *batch_at(step, data, members, batch, seed))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        step += 1
        update_average(average.parameters(), unet.parameters(), step, EMA)
        recent.append(loss.detach())  # as a number it would have to be waited for
        if step % SAVE_EVERY == 0 or step == steps:
            save_checkpoint(state, {"unet": unet, "average": average}, optimizer, {"step": step})
            mean = torch.stack(recent).mean().item()
            board.add_scalar("train/loss", mean, step)
            print(step, f"{(time.time() - started) / 60:.1f} min", f"loss {mean:.4f}", flush=True)
            recent.clear()


def assemble(run: Path, clip: Clip, vae: VAE) -> StableDiffusionPipeline:
    """The pipeline around the averaged UNet of a run."""
    unet = build_unet()
    load_checkpoint(run / "checkpoint.safetensors", {"average": unet}, None)
    text = CLIPTextModel(clip.model.config.text_config)
    text.load_state_dict(clip.model.text_model.state_dict())
    return StableDiffusionPipeline(
        vae=vae.model,
        unet=unet.eval(),
        text_encoder=text.eval(),
        tokenizer=clip.tokenizer,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(run: Path, clip: Clip, vae: VAE, target: Path) -> None:
    assemble(run, clip, vae).to(torch.float16).save_pretrained(target)
    # As in published pipelines, and as older versions of transformers want it; newer ones write names without the prefix.
    file = target / "text_encoder" / "model.safetensors"
    weights = {key if key.startswith("text_model.") else f"text_model.{key}": w for key, w in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    # Where the VAE was loaded from is nobody's business.
    change_config(target / "vae", lambda config: config.pop("_name_or_path", None))
    # transformers loads weights in the type that the configuration names, diffusers in float32: else the two do not fit.
    change_config(target / "text_encoder", lambda config: config.update(dtype="float32"))


def change_config(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    out: Annotated[Path, typer.Option(help="Cache, checkpoints and the TensorBoard log.")] = Path("runs/tiny-sd"),
    clip: Annotated[str, typer.Option(help="The text tower's CLIP: a name, a folder or a hub id.")] = "tiny-clip",
    vae: Annotated[
        str, typer.Option(help="Four latent channels at an eighth of the side: a name, a folder or a hub id.")
    ] = "tiny",
    begin: Annotated[Path | None, typer.Option(help="A UNet's folder to go on from; without, weights are drawn.")] = None,
    export_to: Annotated[Path | None, typer.Option("--export", help="Write the pipeline as float16 here instead.")] = None,
    steps: int = STEPS,
    batch: int = BATCH,
    seed: int = 0,
) -> None:
    if export_to:
        export(out, load_clip(clip), load_vae(vae), export_to)
    else:
        fast_products()
        train(images, out, load_clip(clip, DEVICE), load_vae(vae, DEVICE), begin, steps, batch, seed)


if __name__ == "__main__":
    typer.run(main)
