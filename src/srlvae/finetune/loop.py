"""The training loop of fine-tuning: latents and captions go in, a tuned UNet comes out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srlvae.config import MOST_IMAGES, MOST_SEED, MOST_STEPS, check_numbers
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.models.lora import add_lora
from srlvae.models.noise import denoising_loss
from srlvae.models.pipeline import Conditioning, Pipeline
from srlvae.training.checkpoint import damage_to, load_checkpoint, save_checkpoint
from srlvae.training.precision import make_accelerator
from srlvae.training.schedule import most_skipped, warm_cosine

# Captions whose embeddings are kept, some hundred kilobytes each.
CAPTIONS_KEPT = 1000
ADVICE = "try --precision no or bf16, or a lower --learning-rate, in a new folder"


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning run.

    - `learning_rate` is the peak; see `warm_cosine`.
    - `lora_rank` is the rank of LoRA, and 0 trains all of the UNet.
    - `empty_captions` is the share of captions that are left out, which guidance needs.
    - `warmup` and `checkpoint_every` are in steps.
    - `precision` is as in `make_accelerator`.
    """

    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 1e-4
    lora_rank: int = 0
    empty_captions: float = 0.1
    warmup: int = 20
    seed: int = 0
    checkpoint_every: int = 100
    precision: str = "auto"

    def check(self) -> FinetuneConfig:
        """Return self. Raises InputError for a value out of its range."""
        ranges = {"steps": (1, MOST_STEPS), "checkpoint_every": (1, MOST_STEPS), "warmup": (0, MOST_STEPS)}
        ranges |= {"batch_size": (1, MOST_IMAGES), "lora_rank": (0, 4096), "empty_captions": (0, 1), "seed": (0, MOST_SEED)}
        check_numbers(self, "", **ranges, learning_rate=(0, 1000))
        if self.learning_rate == 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        return self


def tune(
    pipeline: Pipeline,
    latents: Tensor,
    captions: list[str],
    config: FinetuneConfig,
    *,
    checkpoint: Path | None = None,
    listener: Listener | None = None,
) -> Pipeline:
    """Train a copy of the UNet on scaled latents `n c h w` and their captions, and return a pipeline with it.

    Each step is a function of (seed, step), so a run that was cut off and goes on from `checkpoint` ends as one that was not.
    The listener hears of each step.

    Raises InputError for a loss that is not finite or too many such gradients, and KeyboardInterrupt, after a checkpoint, if
    the listener asks to stop.
    """
    tuner, listener = Tuner(pipeline, config), listener or Listener()
    start = tuner.restore(checkpoint) if checkpoint and checkpoint.exists() else 0
    if start:
        listener.says(f"resuming after step {start}")
    for step in range(start, config.steps):
        loss = tuner.step(step, latents, captions)
        listener.at("steps", step + 1, config.steps, f"loss {loss:.4f}")
        listener.measured(step + 1, {"loss": loss})
        stop = listener.should_stop()
        if checkpoint and (stop or (step + 1) % config.checkpoint_every == 0):
            tuner.save(checkpoint, step + 1)
        if stop:
            raise KeyboardInterrupt
    if tuner.skipped == config.steps:
        raise InputError(f"no step had a finite gradient, so nothing was learnt: {ADVICE}")
    return tuner.result()


class Tuner:
    """The UNet in training and its optimiser. `pipeline` is left as it was."""

    def __init__(self, pipeline: Pipeline, config: FinetuneConfig):
        self.config, self.accelerator = config, make_accelerator(config.precision, pipeline.device)
        self.unet = trainable_copy(pipeline.pipe.unet, config)
        self.pipeline = pipeline.with_unet(self.unet)
        self.weights = nn.ParameterList(p for p in self.unet.parameters() if p.requires_grad)
        options: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.01, "fused": pipeline.device.type == "cuda" or None}
        self.optimizer = torch.optim.AdamW(self.weights, lr=config.learning_rate, **options)
        self.timesteps: int = pipeline.pipe.scheduler.config.num_train_timesteps
        # Steps that were left out, as their gradients were not finite.
        self.skipped = 0
        self.condition = lru_cache(CAPTIONS_KEPT)(lambda caption: pipeline.condition([caption]))

    def step(self, step: int, latents: Tensor, captions: Sequence[str]) -> float:
        """Take one optimiser step and return its loss. Raises InputError for a loss that is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warm_cosine(step, self.config.steps, self.config.warmup)
        z, noise, t, chosen = batch_at(step, latents, captions, self.config, self.timesteps)
        z, noise, t = (part.to(self.pipeline.device) for part in (z, noise, t))
        with self.accelerator.autocast():
            conditioning = join_conditionings([self.condition(caption) for caption in chosen])
            loss = denoising_loss(self.pipeline, z, conditioning, t, noise).mean()
        if not loss.isfinite():
            raise InputError(f"the loss is not a number at step {step + 1}: {ADVICE}")
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_gradients(self.optimizer, self.weights, 1.0)
        if norm is not None and not norm.isfinite():
            self.leave_out(step)
        self.accelerator.step(self.optimizer)
        self.optimizer.zero_grad()
        return loss.item()

    def leave_out(self, step: int) -> None:
        """Keep gradients that are not finite from the weights, and count the step. Raises InputError if these are too many."""
        self.skipped += 1
        self.accelerator.leave_out(self.optimizer)
        if self.skipped > most_skipped(step):
            raise InputError(f"{self.skipped} of {step + 1} steps had no finite gradient, so nothing is learnt: {ADVICE}")

    def save(self, checkpoint: Path, step: int) -> None:
        """Write the trained weights, the optimiser's state and float16's scaling after `step` steps."""
        progress = {"step": step, "scaler": self.accelerator.scaling(), "skipped": self.skipped}
        save_checkpoint(checkpoint, {"unet": self.weights}, self.optimizer, progress)

    def restore(self, checkpoint: Path) -> int:
        """Go on from a checkpoint, and return how many steps were taken before it. Raises InputError for a damaged one."""
        with damage_to(checkpoint):
            progress = load_checkpoint(checkpoint, {"unet": self.weights}, self.optimizer)
            # Runs before these were kept have no scaling, and no steps that were left out.
            step, scaling, skipped = progress["step"], progress.get("scaler", {}), progress.get("skipped", 0)
            if not (type(step) is type(skipped) is int and min(step, skipped) >= 0 and isinstance(scaling, dict)):
                raise ValueError("its progress is none of a run")
            self.skipped = skipped
            self.accelerator.restore_scaling(scaling)
        return step

    def result(self) -> Pipeline:
        """The pipeline with the tuned UNet, frozen."""
        self.unet.eval().requires_grad_(False)
        return self.pipeline


def trainable_copy(original: Any, config: FinetuneConfig) -> Any:
    """A copy of the UNet in which all weights are trained, or LoRA on its attention."""
    unet = copy.deepcopy(original).requires_grad_(config.lora_rank == 0)
    if config.lora_rank:
        add_lora(unet, config.lora_rank, config.seed)
    elif unet.device.type == "cpu":
        from diffusers.models.attention_processor import AttnProcessor

        # Plain attention: its backward pass is the faster one on CPUs.
        unet.set_attn_processor(AttnProcessor())
    return unet


def batch_at(
    step: int, latents: Tensor, captions: Sequence[str], config: FinetuneConfig, timesteps: int
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Latents, noise, timesteps and captions of a step, as a function of (seed, step)."""
    rng = np.random.default_rng((config.seed, step))
    # Generators take 63 bits.
    draw = torch.Generator().manual_seed((config.seed * 10**7 + step) % 2**63)
    picked = rng.integers(len(latents), size=config.batch_size)
    empty = rng.random(config.batch_size) < config.empty_captions
    chosen = ["" if left_out else captions[int(i)] for i, left_out in zip(picked, empty, strict=True)]
    z = latents[torch.from_numpy(picked)]
    noise = torch.randn(z.shape, generator=draw).to(z)
    return z, noise, torch.randint(timesteps, (len(z),), generator=draw), chosen


def join_conditionings(parts: list[Conditioning]) -> Conditioning:
    """Join the conditionings of several prompts into one batch."""
    added = {key: torch.cat([part.added[key] for part in parts]) for key in parts[0].added}
    return Conditioning(torch.cat([part.embeds for part in parts]), added)
