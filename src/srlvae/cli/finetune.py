"""`srlvae finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import (
    DeviceHelp,
    LinksHelp,
    PipelineHelp,
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
    pipeline_of,
    quoted,
)
from srlvae.files import shown
from srlvae.locks import holds


@holds("out")
def finetune(
    images: Annotated[Path, typer.Option(help="A folder of images, at any depth. Their centre squares are trained on.")],
    out: Annotated[
        Path,
        typer.Option(help="A new folder for the whole pipeline, or for the LoRA weights alone. " + ResumesHelp),
    ],
    pipeline: Annotated[str, typer.Option(help=PipelineHelp)] = "tiny-sd",
    vae: Annotated[
        str | None, typer.Option(help="The VAE that encodes the images, in place of the pipeline's. " + VaeHelp)
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="A .jsonl, .csv or .json with a caption for each file_name, a path below --images.")
    ] = None,
    caption_column: Annotated[
        str | None, typer.Option(help="The column with the captions. By default `text` or `caption`.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="One caption for all images, in place of those in the folder.")] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Rank of the LoRA to train; 0 trains the whole UNet.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 8,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Peak learning rate, after a warm-up of 20 steps and before a cosine.")
    ] = 1e-4,
    precision: Annotated[str, typer.Option(help=PrecisionHelp)] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Random seed for data order, noise and dropped captions.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    report_to: Annotated[Tracker | None, typer.Option(help=ReportHelp)] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    """Fine-tune a pipeline's UNet on captioned images.

    Every image needs a caption: in a metadata.jsonl, metadata.csv or kohya's meta_cap.json in the folder or below it, or in a
    .txt or .caption beside the image. --prompt gives all images the same one.

    Exit code 3: done, except for files that could not be used. `left-out.csv` in --out lists them.

    For example:
      srlvae finetune --images mine --prompt "a photo of my cat" --out tuned
      srlvae finetune --images captioned --lora-rank 8 --out lora
    """
    from srlvae.cli.drawing import Bars
    from srlvae.finetune import Captions, FinetuneConfig
    from srlvae.finetune import finetune as run
    from srlvae.training.tracking import tracked

    let_in(max_pixels, follow_links)
    config = FinetuneConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        seed=seed,
        checkpoint_every=checkpoint_every,
        precision=precision,
    )
    loaded = pipeline_of(pipeline, vae, device)
    with Bars(console, strict) as bars, tracked(report_to, out, bars) as listener:
        run(loaded, images, out, config, captions=Captions(captions, caption_column), prompt=prompt, listener=listener)
    console.print(f"\nTuned: [bold]{named(out)}[/]")
    if lora_rank:
        console.print(f'Next, in Python: pipeline.load_lora_weights("{shown(out)}")', markup=False)
        console.print(f"For A1111, Forge and ComfyUI: {shown(out / 'kohya_lora.safetensors')}", markup=False)
    else:
        console.print(f"Next: srlvae generate --pipeline {quoted(out)} --prompt … --out FOLDER", markup=False)
    end(bars.omissions, [out], [images], known=(".txt", ".caption", ".jsonl", ".csv", ".json"))
