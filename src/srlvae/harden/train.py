"""The loop: batches in, inner attack, outer step on the encoder, an average of its weights out. Runs on accelerate."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srlvae.checkpoint import load_checkpoint, save_checkpoint
from srlvae.errors import InputError
from srlvae.harden.data import Batch, Crops, Photographs, batches, open_photographs, set_apart
from srlvae.harden.objective import outer_loss, perturb, prepare
from srlvae.harden.output import CHECKPOINT, claim_folder, finish_folder, log_row
from srlvae.harden.scores import attack_both, quick_score, score
from srlvae.harden.settings import PRESETS, HardenConfig
from srlvae.metrics.features import load_features
from srlvae.precision import keep_norms_float32, make_accelerator
from srlvae.vae import VAE, load_vae


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has written its checkpoint."""


@dataclass
class Progress:
    """Where a run stands; stored with every checkpoint."""

    step: int = 0
    steps_skipped: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run is about to do."""

    vae: str
    trained: str
    parameters: int
    photographs: int
    held_out: int
    processes: int
    precision: str
    device: str
    first_step: int
    config: HardenConfig


class Listener:
    """What a run tells the outside, on its main process; the command line draws it."""

    def planned(self, plan: Plan) -> None: ...

    def stepped(self, step: int, losses: dict[str, float]) -> None: ...

    def scored(self, step: int, psnr_clean: float, psnr_attacked: float) -> None: ...

    def scoring(self) -> None: ...

    def should_stop(self) -> bool:
        return False


class Encode(nn.Module):
    """Images to mean latents as a module: what accelerate wraps, and no more than what is trained."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.parts, self.vae = nn.ModuleDict(vae.encoder_modules()), vae

    def forward(self, x: Tensor) -> Tensor:
        return self.vae.mean(x)


def harden(
    vae: VAE | str | Path,
    images: str | Path | Photographs,
    out: str | Path,
    config: HardenConfig = PRESETS["default"],
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> VAE:
    """Post-train the encoder of `vae` on `images` and write the hardened autoencoder to `out`, in diffusers' format.

    vae: a VAE (left as it was), or what `load_vae` takes. images: what `open_photographs` takes or gives. out: a new or
    empty folder; with `resume`, that of an interrupted run with the same settings. Returns the hardened VAE.
    Raises: InputError; Interrupted after a stop that the listener asked for.
    """
    out, listener = Path(out), listener or Listener()
    config.check()
    original = load_vae(vae) if isinstance(vae, str | Path) else frozen_copy(vae)
    original.check_size(config.resolution, config.resolution)
    photographs = open_photographs(str(images), 2 * config.resolution) if isinstance(images, str | Path) else images
    held_out, chosen = set_apart(photographs, config.held_out, config.resolution, config.seed)
    trainer = Trainer(original, config)
    run = {"original": original.fingerprint(), "config": asdict(config)}
    if trainer.is_main:
        claim_folder(out, run, resume)
    trainer.accelerator.wait_for_everyone()
    progress = trainer.restore(out) if resume else Progress()
    trainer.tell(listener.planned, trainer.plan(len(chosen), len(held_out), progress.step))

    samples = batches(
        Crops(photographs, chosen, config.resolution, config.seed), trainer.numbers(progress.step), config.workers
    )
    while progress.step < config.steps:
        losses = trainer.step(progress, list(itertools.islice(samples, trainer.micros)))
        trainer.tell(listener.stepped, progress.step, losses)
        stop = trainer.any_process(listener.should_stop()) and progress.step < config.steps
        if stop or progress.step % config.checkpoint_every == 0 or progress.step == config.steps:
            trainer.save(out, progress, losses, held_out, listener)
        if stop:
            raise Interrupted(f"stopped after step {progress.step} of {config.steps}, checkpoint written")
    hardened = trainer.result()
    if trainer.is_main:
        listener.scoring()
        finish_folder(out, original, hardened, held_out, trainer.compare(hardened, held_out), run, asdict(progress))
    trainer.accelerator.wait_for_everyone()
    return hardened


class Trainer:
    """The networks, the optimiser and the average of one run, and what is done with them a step at a time."""

    def __init__(self, original: VAE, config: HardenConfig):
        self.config = config
        self.accelerator = make_accelerator(config.precision)
        device, processes = self.accelerator.device, self.accelerator.num_processes
        self.per_process, rest = divmod(config.batch_size, processes)
        micro = config.micro_batch or self.per_process
        if rest or self.per_process % micro:
            raise InputError(
                f"a batch of {config.batch_size} does not divide into {processes} processes and micro-batches of {micro}"
            )
        self.micro, self.micros = micro, self.per_process // micro
        self.accelerator.gradient_accumulation_steps = self.micros
        # The layout in which CPUs and tensor cores convolve; on a CPU it is a third faster.
        model: Any = original.model
        model.to(device, memory_format=torch.channels_last)
        self.original = self.teacher = original
        self.vae = copy.deepcopy(original)
        # The original itself stays without hooks: the result is a copy of it.
        if device.type == "cpu" and self.accelerator.mixed_precision == "bf16":
            self.teacher = copy.deepcopy(original)
            for vae in (self.vae, self.teacher):
                keep_norms_float32(vae.model)
        if config.gradient_checkpointing:
            self.vae.model.enable_gradient_checkpointing()
        self.features = None if config.features == "none" else load_features(config.features).to(device)
        encode = Encode(self.vae).requires_grad_(True)
        self.average = copy.deepcopy(encode.parts).requires_grad_(False)
        self.parts = encode.parts
        self.checkpointed: dict[str, nn.Module] = {"encoder": encode.parts, "average": self.average}
        self.parameters = list(encode.parameters())
        optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.encode, self.optimizer = self.accelerator.prepare(encode, optimizer)

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def tell(self, method, *arguments) -> None:
        if self.is_main:
            method(*arguments)

    def any_process(self, flag: bool) -> bool:
        """Whether `flag` is set in any process, so that all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = self.accelerator.gather(torch.tensor([flag], device=self.accelerator.device))
        return bool(torch.as_tensor(flags).any())

    def plan(self, photographs: int, held_out: int, first_step: int) -> Plan:
        return Plan(
            vae=f"{type(self.vae.model).__name__}, {self.vae.channels} latent channels, factor {self.vae.factor}",
            trained=" + ".join(self.parts),
            parameters=sum(p.numel() for p in self.parameters),
            photographs=photographs,
            held_out=held_out,
            processes=self.accelerator.num_processes,
            precision=self.accelerator.mixed_precision,
            device=str(self.accelerator.device),
            first_step=first_step,
            config=self.config,
        )

    def numbers(self, first_step: int) -> list[list[int]]:
        """The sample numbers of this process's micro-batches from `first_step` on."""
        size, rank = self.config.batch_size, self.accelerator.process_index
        starts = [
            step * size + rank * self.per_process + m * self.micro
            for step in range(first_step, self.config.steps)
            for m in range(self.micros)
        ]
        return [list(range(start, start + self.micro)) for start in starts]

    def step(self, progress: Progress, micro_batches: list[Batch]) -> dict[str, float]:
        """One optimiser step. Returns the parts of the loss, means over this process's images."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, self.config)
        totals: dict[str, float] = {}
        for batch in micro_batches:
            progress.unreadable |= {str(index): reason for index, reason in batch.skipped}
            with self.accelerator.accumulate(self.encode):
                for name, value in self._backward(batch).items():
                    totals[name] = totals.get(name, 0.0) + value / self.micros
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.clip)
                    if norm is None or torch.isfinite(norm):
                        self.optimizer.step()
                    else:
                        progress.steps_skipped += 1
                self.optimizer.zero_grad()
        progress.step += 1
        # The average begins as a plain mean, so that it does not remember the start for long.
        decay = min(self.config.ema, progress.step / (progress.step + 9))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.parameters, strict=True):
                slow.lerp_(fast, 1 - decay)
        return totals

    def _backward(self, batch: Batch) -> dict[str, float]:
        objective, device = self.config.objective, self.accelerator.device
        x = batch.x.to(device, memory_format=torch.channels_last)
        features = self.features if objective.uses_features else None
        with self.accelerator.autocast():
            clean = prepare(x, self.teacher, features, objective.stages)
            attacked = perturb(self.vae, self.teacher, clean, features, objective, batch.numbers, self.config.seed)
            loss, parts = outer_loss(self.encode, self.vae, clean, attacked, features, objective)
        self.accelerator.backward(loss)
        return {name: value.item() for name, value in parts.items()}

    def result(self) -> VAE:
        """The original, its encoder's weights moved by `blend` of the way to the averaged ones.

        On the way back, the loss of clean fidelity fades faster than the robustness.
        """
        hardened = copy.deepcopy(self.original)
        for name, module in hardened.encoder_modules().items():
            for weight, tuned in zip(module.parameters(), self.average[name].parameters(), strict=True):
                weight.lerp_(tuned, self.config.blend)
        model: Any = hardened.model
        model.to(memory_format=torch.contiguous_format)
        return hardened

    def compare(self, hardened: VAE, held_out: Tensor) -> dict:
        """The scores of the original and of `hardened` on the photographs set apart."""
        x, seed = held_out.to(self.accelerator.device), self.config.seed
        with self.accelerator.autocast():
            transfer, white_box = attack_both(self.original, x, seed), attack_both(hardened, x, seed)
        return {
            "photographs": len(x),
            "original": asdict(score(self.original, x, transfer, transfer, self.features)),
            "hardened": asdict(score(hardened, x, transfer, white_box, self.features)),
        }

    def save(self, out: Path, progress: Progress, losses: dict[str, float], held_out: Tensor, listener: Listener) -> None:
        """Write the checkpoint, on the main process, and score the average so far."""
        if self.is_main:
            save_checkpoint(out / CHECKPOINT, self.checkpointed, self.optimizer, asdict(progress))
            with self.accelerator.autocast():
                scores = quick_score(self.result(), held_out.to(self.accelerator.device), self.config.seed)
            log_row(out, {"step": progress.step, **losses, "psnr_clean": scores[0], "psnr_attacked": scores[1]})
            listener.scored(progress.step, *scores)
        self.accelerator.wait_for_everyone()

    def restore(self, out: Path) -> Progress:
        """Go on from the checkpoint in `out`, if there is one yet."""
        if not (out / CHECKPOINT).exists():
            return Progress()
        return Progress(**load_checkpoint(out / CHECKPOINT, self.checkpointed, self.optimizer))


def frozen_copy(vae: VAE) -> VAE:
    return VAE(copy.deepcopy(vae.model).float().eval().requires_grad_(False))


def learning_rate(step: int, config: HardenConfig) -> float:
    """Linear warm-up, then half a cosine to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))
