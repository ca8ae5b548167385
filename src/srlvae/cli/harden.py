"""`srlvae harden` and `srlvae apply`, which puts what comes of it onto a VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.export import export_command
from srlvae.cli.shared import (
    LinksHelp,
    PixelsHelp,
    PrecisionHelp,
    ReportHelp,
    ResumesHelp,
    StrictHelp,
    Tracker,
    VaeHelp,
    console,
    end,
    let_in,
    named,
    quoted,
    show_scores,
)
from srlvae.errors import InputError
from srlvae.files import shown
from srlvae.locks import holds


@holds("out")
def harden(
    vae: Annotated[str, typer.Argument(help=VaeHelp, metavar="VAE")],
    images: Annotated[
        str, typer.Option(help="A folder of photographs, at any depth; shards; or a dataset, `hf://owner/name`.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the hardened VAE. " + ResumesHelp)],
    preset: Annotated[
        str | None, typer.Option(help="`cpu` is sized for two cores, `default` for a GPU.  [default: default]")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="`srl`, or for comparison `srl-paper`, `fare`, `noise` or `none`.  [default: srl]")
    ] = None,
    closeness: Annotated[
        float | None,
        typer.Option(
            help="How far clean latents may move, as a share of their norm. More gives more robustness and less fidelity.  "
            "[cpu: 0.14, default: 0.11]"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with all settings, in place of a preset.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.  [cpu: 5000, default: 20000]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step, over all processes.  [cpu: 8, default: 16]")] = None,
    micro_batch: Annotated[
        str | None,
        typer.Option(
            help="Images at a time in a process; gradients accumulate. `auto` takes as many as fit in memory.  [default: auto]"
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the training crops in pixels.  [cpu: 96, default: 256]")
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Radius of all attacks in training, such as 8/255.  [default: each its own, up to 16/255]"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of the cosine schedule.  [default: 2e-4]")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Network of the perceptual distance: efficientnet-lite0, lpips-alex, lpips-vgg or none.  "
            "[default: efficientnet-lite0]"
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help=PrecisionHelp + "  [default: auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed for data order, crops and attacks.  [default: 0]")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.  [cpu: 100, default: 200]")] = None,
    snapshot_every: Annotated[
        int | None,
        typer.Option(help="Steps between encoder files that are kept, for `srlvae bench hardening`.  [default: none are kept]"),
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            help="Recompute activations, for less memory and more time. By default only if not one image fits otherwise."
        ),
    ] = None,
    held_out: Annotated[int | None, typer.Option(help="Photographs set apart for the scores.  [default: 32]")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images, but streams.  [cpu: 0, default: 4]")] = None,
    report_to: Annotated[Tracker | None, typer.Option(help=ReportHelp)] = None,
    resume: Annotated[bool, typer.Option(help="Whether to resume an interrupted run in --out.")] = True,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Read shards or a dataset in order, without copying them first.")
    ] = False,
    image_column: Annotated[
        str | None, typer.Option(help="The column of shards or a dataset that has the images. Guessed by default.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Post-train a VAE's encoder so that perturbations move it less. The result loads in the original's place.

    Exit code 3: done, except for files that could not be used. `left-out.csv` in --out lists them.

    For example:
      srlvae harden tiny --images photographs --out my-tiny --preset cpu
      srlvae harden madebyollin/taesd --images photographs --out my-taesd
      torchrun --nproc-per-node 2 -m srlvae harden madebyollin/taesd \
        --images photographs --out my-taesd
    """
    from srlvae.cli.drawing import Bars
    from srlvae.config import fraction, read_toml
    from srlvae.devices import fast_products
    from srlvae.harden import HardenConfig
    from srlvae.harden import harden as run
    from srlvae.harden import preset as preset_of
    from srlvae.harden.photographs import FolderPhotographs, open_photographs
    from srlvae.training.tracking import tracked

    given: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "resolution": resolution}
    given |= {"micro_batch": None if micro_batch is None else _images_at_once(micro_batch)}
    given |= {"learning_rate": learning_rate, "closeness": closeness, "features": features, "precision": precision}
    given |= {"checkpoint_every": checkpoint_every, "snapshot_every": snapshot_every, "held_out": held_out, "workers": workers}
    given |= {"seed": seed, "gradient_checkpointing": gradient_checkpointing, "eps": None if eps is None else fraction(eps)}
    if config and (preset or objective):
        raise InputError("--config has all settings, so neither --preset nor --objective goes with it")
    settings = read_toml(config, HardenConfig) if config else preset_of(preset or "default", objective or "srl")
    settings = settings.changed(**{name: value for name, value in given.items() if value is not None})
    let_in(max_pixels, follow_links)
    photographs = open_photographs(images, 2 * settings.resolution, streaming=streaming, column=image_column, out=out)
    fast_products()
    with Bars(console, strict) as bars, tracked(report_to, out, bars) as listener:
        run(vae, photographs, out, settings, resume=resume, listener=listener)
    show_scores(out)
    console.print(f"\nHardened VAE: [bold]{named(out)}[/]\nIts encoder alone: [bold]{named(out / 'encoder.safetensors')}[/]")
    console.print(f"For other programs: {export_command(out)}", markup=False)
    words = f"--original {quoted(vae)} --hardened {quoted(out)} --images FOLDER --out FOLDER"
    console.print(f"Next: srlvae bench reconstruction {words}", markup=False)
    # Of shards and datasets all files were looked at.
    end(bars.omissions, [out], [photographs.folder] if isinstance(photographs, FolderPhotographs) else [])


def _images_at_once(word: str) -> int:
    """The setting that `--micro-batch` stands for; 0 is as many as fit."""
    if word == "auto":
        return 0
    try:
        return int(word)
    except ValueError as error:
        raise InputError(f"--micro-batch is auto or a number of images, got {shown(word)}") from error


@holds("out")
def apply(
    encoder: Annotated[
        str,
        typer.Argument(
            help="An encoder file, a folder that `harden` wrote, or a bundled name (`taesd-srl`, `taef1-srl`).",
            metavar="ENCODER",
        ),
    ],
    to: Annotated[str, typer.Option(help="The VAE that the encoder was made from. " + VaeHelp)],
    out: Annotated[Path, typer.Option(help="A new folder for the whole VAE, in diffusers' format.")],
) -> None:
    """Put a hardened encoder onto a copy of its VAE.

    Refuses any VAE but the one that the encoder was made from.

    For example:
      srlvae apply taesd-srl --to madebyollin/taesd --out robust-taesd
    """
    from srlvae.files import write_json
    from srlvae.models.encoders import apply_encoder, read_encoder
    from srlvae.models.vae import RECORD, load_vae
    from srlvae.runs import check_free

    check_free(out)
    read = read_encoder(encoder)
    vae = apply_encoder(read, load_vae(to))
    vae.save(out)
    write_json(out / RECORD, {"made_by": "srlvae apply", **read.facts, "hardened": vae.fingerprint()})
    console.print(f"Hardened VAE: [bold]{named(out)}[/]\nFingerprint: {vae.fingerprint()}")
    words = f"--original {quoted(to)} --hardened {quoted(out)} --images FOLDER --out FOLDER"
    console.print(f"Next: srlvae bench reconstruction {words}", markup=False)
