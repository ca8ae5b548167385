"""A step of a hardening run: the batches that take turns, the gradient, the optimiser, and the checkpoint."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import find_executable_batch_size, should_reduce_batch_size
from torch import Tensor, nn

from srlvae.devices import onto
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.harden.crops import Batch
from srlvae.harden.inner import go_on, perturb
from srlvae.harden.memory import fit
from srlvae.harden.networks import Networks
from srlvae.harden.output import Comparison
from srlvae.harden.progress import Progress
from srlvae.harden.rotation import MicroBatch
from srlvae.harden.settings import HardenConfig
from srlvae.harden.terms import Encoded, Term, next_log_weight, outer_loss, shift
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.training.precision import make_accelerator
from srlvae.training.processes import check_own_gpu
from srlvae.training.recompute import checkpoint_layers
from srlvae.training.schedule import most_skipped

T = TypeVar("T")
# A part of the loss on a micro-batch: its name, the micro-batch's share of the images, and its mean there.
LossPart = tuple[str, float, Tensor]


class Trainer:
    """Everything that a step needs and changes. `original` is frozen and float32, and `held_out` are photographs set apart.

    Raises InputError if a batch does not divide into processes and micro-batches, or if some have no GPU of their own.
    """

    def __init__(self, original: VAE, config: HardenConfig, held_out: Images, listener: Listener | None = None):
        self.config, self.objective, self.listener = config, config.objective, listener or Listener()
        check_own_gpu()
        self.accelerator = make_accelerator(config.precision)
        self.device, self.processes = self.accelerator.device, self.accelerator.processes
        self.per_process, rest = divmod(config.batch_size, self.processes.num_processes)
        if rest or self.per_process % (config.micro_batch or self.per_process):
            raise InputError(
                f"a batch of {config.batch_size} does not divide into {self.processes.num_processes} processes "
                f"and micro-batches of {config.micro_batch or self.per_process}"
            )
        self.networks = Networks(original, config, self.accelerator, held_out)
        self.fit = fit(self.networks, self.terms(Progress()), self.per_process)
        self.micro = self.fit.micro
        if self.fit.checkpointing:
            checkpoint_layers(self.networks.vae.model)
        self.parameters, self.vae = self.networks.parameters, self.networks.vae
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=self.device.type == "cuda" or None,
        )
        encode = self.networks.encode
        self.modules: dict[str, nn.Module] = {"encoder": encode.parts, "average": self.networks.average}
        self.encode: Any = self.processes.prepare(encode)
        self.held: dict[int, list[MicroBatch]] = {}
        self.comparison = Comparison(self.networks.original, held_out[:4])

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which alone writes and reports."""
        return self.processes.is_main_process

    def tell(self, method, *arguments) -> None:
        """Call a listener's method, on the main process only."""
        if self.is_main:
            method(*arguments)

    def any_process(self, flag: bool) -> bool:
        """Whether `flag` is set in any process, so that all of them stop after the same step."""
        if self.processes.num_processes == 1:
            return flag
        flags = self.processes.gather(torch.tensor([flag], device=self.device))
        return bool(torch.as_tensor(flags).any())

    def numbers(self, batch: int) -> list[int]:
        """The numbers, in the run, of this process's images of a batch."""
        start = batch * self.config.batch_size + self.processes.process_index * self.per_process
        return list(range(start, start + self.per_process))

    def terms(self, progress: Progress) -> tuple[Term, ...]:
        """The objective's terms, and the term that keeps clean latents close with its current weight."""
        close = Term("shift", "clean", math.exp(progress.log_weight))
        return (*self.objective.terms, close) if self.objective.closeness else self.objective.terms

    # --- the batches that take turns

    def take(self, place: int, batch: Batch, progress: Progress, radius: float, delta: Images | None = None) -> None:
        """Put a batch in its place, with new perturbations or with those that it had before an interruption."""
        progress.unreadable |= dict(batch.skipped)
        x = onto(batch.x, self.device).contiguous(memory_format=torch.channels_last)
        delta = None if delta is None else delta.to(self.device)

        def parts() -> list[MicroBatch]:
            cuts = [slice(start, start + self.micro) for start in range(0, len(x), self.micro)]
            return [self._part(x[c], batch.numbers[c], radius, None if delta is None else delta[c]) for c in cuts]

        self.held[place] = self._halving(parts)

    def _part(self, x: Images, numbers: list[int], radius: float, delta: Images | None) -> MicroBatch:
        with self.accelerator.autocast():
            clean = self.networks.clean(x)
            if delta is None:
                attacks, weaker = self.objective.attacks, self.objective.weaker
                delta = perturb(self.vae, clean, attacks, numbers, self.config.seed, radius, weaker)
        return MicroBatch(clean, numbers, delta)

    def _halving(self, work: Callable[[], T]) -> T:
        """Call `work`. If memory runs out, call it again with half as many images at a time, from then on."""
        while True:
            try:
                return work()
            except RuntimeError as error:
                if self.micro == 1 or self.processes.num_processes > 1 or not should_reduce_batch_size(error):
                    raise
            self.optimizer.zero_grad()
            self.micro = (self.micro + 1) // 2
            self.tell(self.listener.says, f"memory has run out: from now on {self.micro} of {self.per_process} images at once")
            self.held = {p: [half for part in parts for half in part.halves()] for p, parts in self.held.items()}

    def fitting(self, work: Callable[[int], T]) -> T:
        """Call `work(n)` with as many images at a time as fit in memory, from a micro-batch down."""

        def reduced() -> int:
            sizes.append(sizes[-1] // 2)
            return sizes[-1]

        # What is scored keeps all activations, and a CPU has no error to catch.
        sizes = [1 if self.fit.checkpointing else self.micro]
        return find_executable_batch_size(work, sizes[0], reduced)()

    # --- a step

    def step(self, progress: Progress, place: int) -> dict[str, float]:
        """Take one optimiser step on the batch in `place`, and move its perturbations on. Returns the parts of the loss."""
        parts, gradients = self._halving(lambda: self._gradients(progress, place))
        losses = self._update(progress, parts)
        objective, radius = self.objective, self.objective.radius(progress.step / self.config.steps)
        for part, gradient in zip(self.held[place], gradients, strict=True):
            if gradient is not None:
                attacks, weaker = objective.attacks, objective.weaker
                part.delta = go_on(part.delta, gradient, part.clean, attacks, part.numbers, radius, weaker)
        progress.step += 1
        return losses

    def _gradients(self, progress: Progress, place: int) -> tuple[list[LossPart], list[Tensor | None]]:
        """Accumulate the gradient of the loss. Returns its parts, and its gradients with respect to the attacked images.

        Nothing here waits for the device.
        """
        terms, parts, every = self.terms(progress), self.held[place], self.objective.decode_every
        moving = self.objective.visits > 1 and any(attack.goes_on for attack in self.objective.attacks)
        found: list[LossPart] = []
        gradients: list[Tensor | None] = []
        for number, part in enumerate(parts, 1):
            share = len(part.numbers) / self.per_process
            attacked = (part.clean.x + part.delta).requires_grad_(moving) if self.objective.attacks else None
            with contextlib.nullcontext() if number == len(parts) else self.processes.no_sync(self.encode):
                with self.accelerator.autocast():
                    looked = [row for row, image in enumerate(part.numbers) if image % every == 0]
                    loss, logged = outer_loss(self.encode, self.vae, part.clean, attacked, terms, looked, every)
                self.accelerator.backward(share * loss.mean())
            found += [(name, share, value) for name, value in logged.items()]
            gradients.append(attacked.grad if attacked is not None else None)
        return found, gradients

    def _update(self, progress: Progress, parts: list[LossPart]) -> dict[str, float]:
        """Step the optimiser and the average, and return the parts of the loss as numbers.

        A step without a finite gradient is left out and counted.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(progress.step)
        norm = self.accelerator.clip_gradients(self.optimizer, self.parameters, self.config.clip)
        # The one moment of a step at which the program waits for the device.
        values = torch.stack([value.float() for _, _, value in parts] + ([] if norm is None else [norm.float()])).tolist()
        losses: dict[str, float] = {}
        for (name, share, _), value in zip(parts, values, strict=False):
            losses[name] = losses.get(name, 0.0) + share * value
        if norm is not None and not math.isfinite(values[-1]):
            progress.steps_skipped += 1
            self.accelerator.leave_out(self.optimizer)
        self.accelerator.step(self.optimizer)
        self.optimizer.zero_grad()
        if progress.steps_skipped > most_skipped(progress.step):
            raise InputError(
                f"{progress.steps_skipped} of {progress.step + 1} steps had no finite gradient, so nothing is learnt: try "
                "--precision no or bf16, a lower learning rate, or look for photographs that the VAE cannot encode"
            )
        self.networks.update_average(progress.step + 1)
        return losses

    @torch.no_grad()
    def steer(self, progress: Progress, place: int) -> None:
        """Move the weight of closeness according to how far clean latents lie from the original's.

        It looks at a new batch before it is trained on and known by heart, and at the encoder in training, as the average lags
        behind.
        """
        with self.accelerator.autocast():
            found = [shift(Encoded(part.clean, self.vae.mean(part.clean.x))) for part in self.held[place]]
        moved = float(torch.as_tensor(self.processes.reduce(torch.cat(found).mean(), "mean")))
        bound = self.objective.bound(progress.step / self.config.steps)
        progress.log_weight = next_log_weight(progress.log_weight, moved, bound)
