"""What a run is about to do, in words."""

from __future__ import annotations

from srlvae.harden.photographs import Photographs, StreamPhotographs
from srlvae.harden.settings import Objective
from srlvae.harden.trainer import Trainer
from srlvae.words import counted


def plan(trainer: Trainer, photographs: Photographs, chosen: int, held_out: int) -> list[str]:
    """A line each about the model, the device, the photographs, the attacks, what is minimised and the memory needed."""
    vae, config, processes = trainer.vae, trainer.config, trainer.processes.num_processes
    parameters = sum(p.numel() for p in trainer.parameters)
    return [
        f"{type(vae.model).__name__}, {vae.channels} latent channels, factor {vae.factor}",
        f"training {' + '.join(vae.encoder_modules())}: {parameters:,} parameters on {trainer.device}, "
        f"in {trainer.accelerator.kind}, {counted(processes, 'process')}",
        f"{_number(photographs, chosen)}, and {held_out} more set apart for the scores; "
        f"{config.steps} steps of {config.batch_size} crops of {config.resolution} pixels",
        f"inner attacks: {_attacks(config.objective)}",
        f"objective: {_terms(config.objective)}",
        trainer.fit.said(trainer.per_process),
    ]


def _number(photographs: Photographs, chosen: int) -> str:
    if isinstance(photographs, StreamPhotographs):
        return f"a stream of {counted(photographs.shards, 'shard')}"
    return counted(chosen, "photograph")


def _attacks(objective: Objective) -> str:
    named = [f"{a.aim} on the {a.on} encoder within {a.eps * 255:.0f}/255" for a in objective.attacks if a.share]
    return ", ".join(named) or "none"


def _terms(objective: Objective) -> str:
    named = [f"{term.weight:g} × {term.measure} of {term.on} images" for term in objective.terms]
    close = [f"clean latents kept within {objective.closeness:g} of the original's"] if objective.closeness else []
    return ", ".join(named + close)
