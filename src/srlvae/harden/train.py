"""A hardening run from beginning to end: photographs go in, the encoder is trained, and a folder comes out."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import read_record
from srlvae.harden.apart import set_apart
from srlvae.harden.checkpoints import restore, write_checkpoint
from srlvae.harden.crops import Crops, batches, faults_of_workers, name_skipped, readers
from srlvae.harden.networks import frozen_copy
from srlvae.harden.output import CHECKPOINT, RECORD, RUN, finish_folder, log_row
from srlvae.harden.photographs import (
    FolderPhotographs,
    Photographs,
    StreamPhotographs,
    look_through,
    open_photographs,
    photographs_digest,
)
from srlvae.harden.plan import plan
from srlvae.harden.progress import Progress
from srlvae.harden.rotation import visits
from srlvae.harden.scores import quick_score, scores
from srlvae.harden.settings import PRESETS, HardenConfig
from srlvae.harden.stream import Deal
from srlvae.harden.trainer import Trainer
from srlvae.images import LeftOut
from srlvae.locks import holds
from srlvae.models.encoders import write_encoder
from srlvae.models.vae import VAE, load_vae
from srlvae.runs import claim
from srlvae.training.processes import meet

# Settings that do not change what comes out, but for roundings: they may differ when a run goes on.
FREE = ("steps", "micro_batch", "gradient_checkpointing", "checkpoint_every", "snapshot_every", "workers")


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has written its checkpoint."""


@holds("out")
def harden(
    vae: VAE | str | Path,
    images: str | Path | Photographs,
    out: str | Path,
    config: HardenConfig = PRESETS["default"],
    *,
    resume: bool = True,
    listener: Listener | None = None,
) -> VAE:
    """Post-train the encoder of `vae` on `images`, write the hardened autoencoder to `out`, and return it.

    `vae` is a VAE, which is left as it was, or anything that `load_vae` takes. `images` is what `open_photographs` takes or
    returns. `out` is a new or an empty folder, or that of an interrupted run with the same settings. Such a run goes on, if
    `resume` is on, also with other `steps`. The result is in diffusers' format. Unusable photographs are listed in `out`.

    Raises InputError for wrong settings, wrong input or a run that learnt nothing, and Interrupted at the listener's wish.
    """
    out, listener = Path(out), listener or Listener()
    config.check()
    original = load_vae(vae) if isinstance(vae, str | Path) else frozen_copy(vae)
    original.check_size(config.resolution, config.resolution)
    if isinstance(images, str | Path):
        images = open_photographs(str(images), 2 * config.resolution, out=out)
    left_out = LeftOut(listener)
    held_out, photographs, chosen = set_apart(images, config.held_out, config.resolution, config.seed, left_out)
    trainer = Trainer(original, config, held_out, listener)
    run: dict[str, Any] = {"original": original.fingerprint(), "config": asdict(config)}
    run |= {"photographs": photographs_digest(photographs, held_out)}
    if isinstance(photographs, StreamPhotographs):
        # Another number of processes would read other images, and put perturbations on them that are not theirs.
        run |= {"processes": trainer.processes.num_processes, "shards": photographs.shards}
    progress, perturbations = begin(trainer, out, run, photographs, resume)
    for line in plan(trainer, photographs, len(chosen), len(held_out)):
        trainer.tell(listener.says, line)
    if progress.step:
        trainer.tell(listener.says, f"resuming after step {progress.step}")
    crops = Crops(own_share(photographs, trainer, progress), chosen, config.resolution, config.seed)
    try:
        if trainer.is_main and isinstance(photographs, FolderPhotographs):
            look_through(photographs, config.resolution, left_out)
        meet("looking through the photographs")  # which takes longer than processes wait for each other in a step
        # What an interrupted run came upon.
        name_skipped(progress.unreadable.items(), left_out)
        with faults_of_workers():
            train(trainer, crops, out, progress, perturbations, held_out, left_out)
        # What other processes came upon.
        name_skipped(progress.unreadable.items(), left_out)
    finally:
        if trainer.is_main:
            left_out.write(out)
    trainer.networks.check_learnt()
    if trainer.is_main:
        listener.says("comparing before and after …")
        finish(trainer, out, held_out, run, progress, len(left_out.files))
    meet("comparing before and after")
    return trainer.networks.result()


def own_share(photographs: Photographs, trainer: Trainer, progress: Progress) -> Photographs:
    """Photographs as this process reads them: of a stream its own shards, of others all."""
    if not isinstance(photographs, StreamPhotographs):
        return photographs
    state = trainer.processes
    deal = Deal(trainer.config.seed, state.process_index, state.num_processes, trainer.per_process)
    return photographs.dealt(deal, photographs.apart, progress.rows)


def begin(trainer: Trainer, out: Path, run: dict, photographs: Photographs, resume: bool) -> tuple[Progress, dict[int, Tensor]]:
    """Claim `out` for the run, and return how far an earlier one has come and its perturbations by place.

    Raises InputError as `claim` does, for a checkpoint that is damaged, and for one of more steps than the run is to take.
    """
    if trainer.is_main:
        contents = {"contents": photographs.contents()} if isinstance(photographs, FolderPhotographs) else {}
        # A run whose record does not say what was in its files is known by their names and sizes.
        known = not (out / RUN).is_file() or "contents" in read_record(out / RUN)
        claim(out, RUN, run | contents, free=FREE if known else (*FREE, "contents"), finished=RECORD, resume=resume)
    meet("beginning")
    checkpoint, steps = out / CHECKPOINT, trainer.config.steps
    progress, perturbations = restore(trainer, checkpoint) if checkpoint.exists() else (Progress(), {})
    if progress.step > steps:
        raise InputError(f"the run in {out} has taken {progress.step} steps already; give as many --steps, or a new folder")
    if progress.planned[-1:] != [steps]:
        progress.planned.append(steps)
    return progress, perturbations


def finish(trainer: Trainer, out: Path, held_out: Tensor, run: dict, progress: Progress, skipped: int) -> None:
    """Score the original and the hardened autoencoder, and write the folder that comes out of the run."""
    original, hardened, seed = trainer.networks.original, trainer.networks.result(), trainer.config.seed
    with trainer.accelerator.autocast():
        x, features = held_out.to(trainer.device), trainer.networks.features
        table = trainer.fitting(lambda n: scores(original, hardened, x, seed, features, n))
    table["precision"] = trainer.accelerator.kind
    finish_folder(out, trainer.comparison, hardened, table, run, asdict(progress), skipped)


def train(
    trainer: Trainer,
    crops: Crops,
    out: Path,
    progress: Progress,
    perturbations: dict[int, Tensor],
    held_out: Tensor,
    left_out: LeftOut,
) -> None:
    """Take the steps that are left, with regular checkpoints, and stop when the listener of `left_out` asks for it.

    Photographs that cannot be used are added to `left_out`. Raises Interrupted after such a stop.
    """
    listener = left_out.listener
    config, objective = trainer.config, trainer.objective
    ahead = visits(config.steps, config.places, objective.visits)[progress.step :]
    # Those in their places before the interruption, in ascending order, as a stream is read in; then the new ones.
    new = [visit.number for visit in ahead if visit.new]
    old = {visit.number: visit.place for visit in ahead if visit.number < min(new, default=visit.number + 1)}
    workers = readers(crops, trainer.per_process, config.workers, listener)
    samples = batches(crops, [trainer.numbers(number) for number in (*sorted(old), *new)], workers, left_out)
    for number in sorted(old):
        # A run that was about to end may have put away a batch that it needs now, as it has been told to take more steps.
        radius = objective.radius(progress.step / config.steps)
        trainer.take(old[number], next(samples), progress, radius, perturbations.get(old[number]))
    for visit in ahead:
        began = time.process_time()
        if visit.new:
            trainer.take(visit.place, next(samples), progress, objective.radius(progress.step / config.steps))
            # The first batches come before the encoder has moved: they say nothing of where it will be.
            if objective.closeness and progress.step >= config.places:
                trainer.steer(progress, visit.place)
        losses = trainer.step(progress, visit.place)
        progress.seconds += time.process_time() - began
        note = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        trainer.tell(listener.at, "steps", progress.step, config.steps, note)
        trainer.tell(listener.measured, progress.step, losses)
        if config.snapshot_every and progress.step % config.snapshot_every == 0 and trainer.is_main:
            snapshot(trainer, out, progress, workers)
        done = progress.step == config.steps
        stop = trainer.any_process(listener.should_stop()) and not done
        if stop or progress.step % config.checkpoint_every == 0 or done:
            save(trainer, out, progress, losses, held_out, listener)
        if stop:
            raise Interrupted(f"stopped after step {progress.step} of {config.steps}, the checkpoint is written")


def save(
    trainer: Trainer, out: Path, progress: Progress, losses: dict[str, float], held_out: Tensor, listener: Listener
) -> None:
    """Write the checkpoint, and score the average so far."""
    write_checkpoint(trainer, out / CHECKPOINT, progress)
    if trainer.is_main:
        x = held_out[:8].to(trainer.device)
        with trainer.accelerator.autocast():
            original, average, seed = trainer.networks.original, trainer.networks.result(), trainer.config.seed
            clean, attacked = trainer.fitting(lambda n: quick_score(original, average, x, seed, n))
        weight = math.exp(progress.log_weight)
        log_row(out, {"step": progress.step, **losses, "weight": weight, "shift_clean": clean, "shift_attacked": attacked})
        listener.says(f"step {progress.step}: latents moved by {clean:.3f} clean, {attacked:.3f} attacked")
        listener.measured(progress.step, {"weight": weight, "shift_clean": clean, "shift_attacked": attacked})
        if listener.wants_pictures:
            listener.pictured(progress.step, "attacked", trainer.comparison.picture(average))
    meet("scoring a checkpoint")


def snapshot(trainer: Trainer, out: Path, progress: Progress, workers: int) -> None:
    """Keep the current average as an encoder file, with what it has cost so far and what made it, such as `workers`."""
    facts = {"step": progress.step, "images": progress.step * trainer.config.batch_size, "seconds": progress.seconds}
    made_by = {"device": trainer.device.type, "processes": trainer.processes.num_processes, "readers": workers}
    path = out / "snapshots" / f"step-{progress.step:06d}.safetensors"
    write_encoder(path, trainer.networks.result(), trainer.networks.original, facts | {"made_by": made_by})
