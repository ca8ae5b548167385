"""`srlvae harden` and `srlvae apply`, which puts what comes of it onto a VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.export import export_command
from srlvae.cli.shared import (
    LinksHelp,
    PixelsHelp,
    ReportHelp,
    StrictHelp,
    Tracker,
    VaeHelp,
    console,
    end,
    let_in,
    named,
    show_scores,
)
from srlvae.errors import InputError
from srlvae.files import shown
from srlvae.locks import holds


@holds("out")
def harden(
    vae: Annotated[str, typer.Argument(help=VaeHelp, metavar="VAE")],
    images: Annotated[str, typer.Option(help="A folder of photographs (any depth), shards, or a dataset, hf://owner/name.")],
    out: Annotated[Path, typer.Option(help="A new folder for the hardened VAE. The same command resumes an interrupted run.")],
    preset: Annotated[
        str | None, typer.Option(help="`cpu`: sized for two cores. `default`, if none is given: for a GPU.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="`srl`, the default, or for comparison: `srl-paper`, `fare`, `noise`, `none`.")
    ] = None,
    closeness: Annotated[
        float | None,
        typer.Option(help="How far clean latents may move, as a share of their norm. More gives more robustness."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with all settings, instead of a preset.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step, over all processes.")] = None,
    micro_batch: Annotated[
        str | None,
        typer.Option(help="Images at a time in a process; gradients accumulate. `auto`, the default: what fits in memory."),
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the training crops in pixels.")] = None,
    eps: Annotated[str | None, typer.Option(help="Radius of all inner attacks, such as 8/255.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate of the cosine schedule.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature network of perceptual terms: efficientnet-lite0, lpips-alex, lpips-vgg or none.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Precision of the networks: auto, no (float32), bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed for data order, crops and attacks.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    snapshot_every: Annotated[
        int | None, typer.Option(help="Steps between encoder files that are kept, for `srlvae bench hardening`.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(help="Recompute activations: less memory and more time. By default where not one image fits without."),
    ] = None,
    held_out: Annotated[int | None, typer.Option(help="Photographs set apart for the scores.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    report_to: Annotated[Tracker | None, typer.Option(help=ReportHelp)] = None,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run with the same settings in --out.")] = True,
    streaming: Annotated[bool, typer.Option("--streaming", help="Stream shards or a Hugging Face dataset.")] = False,
    image_column: Annotated[
        str | None, typer.Option(help="The column of shards or a dataset that has the images; guessed by default.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    """Post-train a VAE's encoder so that perturbations move it less. The result loads in the original's place.

    Exit code 3: done, but for files that could not be used; `left-out.csv` in --out names them.

    Example: `srlvae harden madebyollin/taesd --images photographs --out my-taesd --preset cpu`

    Several processes: `torchrun --nproc-per-node 2 -m srlvae harden …`
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
    photographs = open_photographs(images, 2 * settings.resolution, streaming=streaming, column=image_column)
    fast_products()
    with Bars(console, strict) as bars, tracked(report_to, out, bars) as listener:
        run(vae, photographs, out, settings, resume=resume, listener=listener)
    show_scores(out)
    console.print(f"\nHardened VAE: [bold]{named(out)}[/]\nIts encoder alone: [bold]{named(out / 'encoder.safetensors')}[/]")
    console.print(f"For other programs: {shown(export_command(out))}", markup=False)
    words = f"--original {shown(vae)} --hardened {shown(out)} --images FOLDER --out FOLDER"
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
        str, typer.Argument(help="An encoder file, a folder that `harden` wrote, or a bundled name.", metavar="ENCODER")
    ],
    to: Annotated[str, typer.Option(help="The VAE it was made from: " + VaeHelp)],
    out: Annotated[Path, typer.Option(help="A new folder for the whole VAE, in diffusers' format.")],
) -> None:
    """Put a hardened encoder onto a copy of the VAE that it was made from.

    Example: `srlvae apply taesd-srl --to madebyollin/taesd --out taesd-srl`
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
    console.print(f"Hardened VAE: [bold]{named(out)}[/]\nfingerprint {vae.fingerprint()}")
