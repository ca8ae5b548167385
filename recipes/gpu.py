"""What hardening, attacks, scans and edits need on this machine's GPU, on VAEs of well-known shapes with random weights.

    python recipes/gpu.py results/gpu.json
    python recipes/gpu.py results/gpu.json --minutes 2

Rows have the peak memory beside what was estimated before the first step, and images a second. The most telling rows come
first; when the minutes are over, the rest is left out, and the file says so. Without a GPU it measures the CPU, in hours.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import diffusers
import torch
import typer
from rich.console import Console
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from memory import MODELS
from srlvae.attacks.memory import BEYOND
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.devices import default_device, fast_products
from srlvae.files import write_json
from srlvae.harden import preset
from srlvae.harden.crops import Batch
from srlvae.harden.progress import Progress
from srlvae.harden.trainer import Trainer
from srlvae.models.memory import image_to_image_peak
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.purify.cost import peak_memory
from srlvae.rng import generators
from srlvae.scan import Encoders
from srlvae.zoo import FOLDER

DEVICE = default_device()
SIDES, AT_ONCE = (256, 512), (16, 4, 1)
# unet/config.json and text_encoder/config.json of stable-diffusion-v1-5 and of stable-diffusion-xl-base-1.0.
SD_UNET = {"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768}
SDXL_UNET = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}

Measures = dict[str, float | int | str]
Row = dict[str, Any]


def vae_of(name: str, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    with DEVICE:
        return VAE(MODELS[name]().eval().requires_grad_(False))


def pipeline_of(name: str) -> Pipeline:
    """A pipeline of the shapes of Stable Diffusion 1.5 or SDXL; prompts are in the bundled tokenizer's words."""
    words = CLIPTokenizer.from_pretrained(FOLDER / "tiny-sd" / "tokenizer")
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    vae, xl = vae_of(name), name == "SDXL"
    with DEVICE:
        parts: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(**SDXL_UNET if xl else SD_UNET),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP_L, **ends)),
        }
        if xl:
            parts["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G, **ends, projection_dim=1280))
    for part in parts.values():
        part.eval().requires_grad_(False)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    parts |= {"vae": vae.model, "tokenizer": words, "scheduler": diffusers.DDIMScheduler(**betas, clip_sample=False)}
    if xl:
        return Pipeline(diffusers.StableDiffusionXLPipeline(**parts, tokenizer_2=words, add_watermarker=False), "bf16")
    checks: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return Pipeline(diffusers.StableDiffusionPipeline(**parts, **checks), "bf16")


def synchronised() -> float:
    if DEVICE.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def measured(run: Callable[[], object], count: int) -> Measures:
    """Peak memory and images a second of `run` over `count` images, after one run that does not count."""
    run()
    began = synchronised()
    peak = peak_memory(run, DEVICE)
    return {"peak_bytes": peak, "images_per_second": count / (synchronised() - began)}


def harden(vae: VAE, side: int, at_once: int, checkpointing: bool, compiled: bool) -> Measures:
    """Times two steps on a batch, after it was taken in and two steps were run. Taking it in is shared out to its `visits`."""
    objective = preset("default").objective
    config = preset("default", batch_size=at_once, micro_batch=at_once, resolution=side, features="none", steps=100)
    config = dataclasses.replace(
        config, gradient_checkpointing=checkpointing, objective=dataclasses.replace(objective, turns=1)
    )
    trainer, progress = Trainer(vae, config, images(2, side)), Progress()
    if compiled:
        trainer.vae.model.encoder.compile()
        trainer.vae.model.decoder.compile()
    batch, taking = Batch(images(at_once, side), list(range(at_once)), []), 0.0
    for _ in range(2):
        began = synchronised()
        peak = peak_memory(lambda: trainer.take(0, batch, progress, 1.0), DEVICE)
        taking = synchronised() - began
    found = measured(lambda: [trainer.step(progress, 0) for _ in range(2)], 2 * at_once)
    step = at_once / float(found["images_per_second"])
    peaks = {"peak_bytes": max(peak, found["peak_bytes"]), "estimated_bytes": trainer.fit.needed or 0}
    return {**peaks, "images_per_second": at_once / (step + taking / objective.visits), "seconds_a_step": step}


def scan(vae: VAE, hardened: VAE, side: int, at_once: int) -> Measures:
    encoders, x = Encoders(vae, hardened, "bf16").on(DEVICE), images(at_once, side)
    return measured(lambda: encoders.look(x), at_once)


def attack(model: VAE | Pipeline, name: str, side: int, at_once: int, steps: int) -> Measures:
    """Images a second for one step of the attack."""
    prepared = prepare(Request(name, steps=steps, precision="bf16"), model)
    x, names = images(at_once, side).to(DEVICE), [str(i) for i in range(at_once)]
    return measured(lambda: prepared.perturb(x, names), at_once * steps)


def edit(pipeline: Pipeline, side: int, at_once: int) -> Measures:
    x = images(at_once, side).to(DEVICE)
    return measured(lambda: pipeline.edit(x, ["a photo"] * at_once, generators(0, range(at_once))), at_once)


def works() -> Iterator[tuple[Row, Callable[[], Measures]]]:
    """What is measured, the most telling first. Networks are built when their first row is reached."""
    for name, checkpointing in (("SD 1.5", False), ("SD 1.5", True), ("TAESD", False)):
        vae = vae_of(name)
        for side, at_once in itertools.product(SIDES, AT_ONCE):
            row = {"work": "harden", "model": name, "pixels": side, "at_once": at_once}
            row |= {"gradient_checkpointing": checkpointing, "compiled": False}
            yield row, partial(harden, vae, side, at_once, checkpointing, False)
    for name in ("SD 1.5", "FLUX.1"):
        vae, hardened = vae_of(name), vae_of(name, 1)
        for side, at_once in itertools.product(SIDES, AT_ONCE):
            row = {"model": name, "pixels": side, "at_once": at_once}
            yield {"work": "scan", **row}, partial(scan, vae, hardened, side, at_once)
            yield {"work": "photoguard-encoder", **row}, partial(attack, vae, "photoguard-encoder", side, at_once, 5)
    for name in ("SD 1.5", "SDXL"):
        pipeline = pipeline_of(name)
        for side, at_once in itertools.product(SIDES, AT_ONCE):
            row = {"model": name, "pixels": side, "at_once": at_once}
            yield {"work": "edit", **row}, partial(edit, pipeline, side, at_once)
        for side in SIDES:
            peak = image_to_image_peak(pipeline, side, side)
            row = {"work": "photoguard-diffusion", "model": name, "pixels": side, "at_once": 1}
            row["estimated_bytes"] = round((peak.total - peak.weights) * BEYOND)
            yield row, partial(attack, pipeline, "photoguard-diffusion", side, 1, 1)
    for name in ("FLUX.1", "SDXL"):
        vae = vae_of(name)
        for side, at_once in itertools.product(SIDES, AT_ONCE):
            row = {"work": "harden", "model": name, "pixels": side, "at_once": at_once}
            row |= {"gradient_checkpointing": False, "compiled": False}
            yield row, partial(harden, vae, side, at_once, False, False)
    for name, at_once in (("TAESD", 16), ("SD 1.5", 16)):
        vae = vae_of(name)
        row = {"work": "harden", "model": name, "pixels": 256, "at_once": at_once}
        yield row | {"gradient_checkpointing": False, "compiled": True}, partial(harden, vae, 256, at_once, False, True)


def tried(work: Callable[[], Measures]) -> Measures:
    """What a work measures, or why it cannot be done."""
    try:
        return work()
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except RuntimeError as error:
        return {"failed": str(error).splitlines()[0]}


def main(
    result: Path,
    minutes: Annotated[float, typer.Option(help="Rows that begin later are left out.")] = 10.0,
) -> None:
    fast_products()
    console, began = Console(), time.perf_counter()
    found: list[Row] = []
    facts = {"environment": environment(), "complete": False, "rows": found}
    for row, work in works():
        if time.perf_counter() - began > 60 * minutes:
            break
        found.append(row | tried(work))
        console.print(found[-1])
        write_json(result, facts)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    else:
        write_json(result, {**facts, "complete": True})


if __name__ == "__main__":
    typer.run(main)
