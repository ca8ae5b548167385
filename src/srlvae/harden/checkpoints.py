"""The checkpoint of a hardening run: weights, optimiser, progress, and the perturbations of the batches that take turns."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srlvae.harden.progress import Progress
from srlvae.harden.trainer import Trainer
from srlvae.training.checkpoint import damage_to, load_checkpoint, load_more, save_checkpoint
from srlvae.training.processes import gathered


def write_checkpoint(trainer: Trainer, path: Path, progress: Progress) -> None:
    """Write the checkpoint, on the main process."""
    tensors = _perturbations(trainer)
    for rows, unreadable in gathered((progress.rows, progress.unreadable)):
        progress.rows |= rows
        progress.unreadable |= unreadable
    if trainer.is_main:
        progress.scaler = trainer.accelerator.scaling()
        save_checkpoint(path, trainer.modules, trainer.optimizer, vars(progress), tensors)


def restore(trainer: Trainer, path: Path) -> tuple[Progress, dict[int, Tensor]]:
    """Go on from a checkpoint. Returns the progress, and this process's perturbations by place.

    Raises InputError for one that is damaged or of another run.
    """
    with damage_to(path):
        progress = Progress(**load_checkpoint(path, trainer.modules, trainer.optimizer)).check()
        trainer.accelerator.restore_scaling(progress.scaler)
        found = {int(place): tensor for place, tensor in load_more(path).items()}
        shape = (trainer.config.batch_size, 3, trainer.config.resolution, trainer.config.resolution)
        if any(tuple(tensor.shape) != shape or not tensor.isfinite().all() for tensor in found.values()):
            raise ValueError("its perturbations are none of its batches")
    start = trainer.processes.process_index * trainer.per_process
    return progress, {place: tensor[start : start + trainer.per_process] for place, tensor in found.items()}


def _perturbations(trainer: Trainer) -> dict[str, Tensor]:
    """The perturbations of all processes' images, by place."""
    own = {place: torch.cat([part.delta for part in parts]).contiguous() for place, parts in sorted(trainer.held.items())}
    return {str(place): torch.as_tensor(trainer.processes.gather(delta)) for place, delta in own.items()}
