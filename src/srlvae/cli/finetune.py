"""`srlvae finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import DeviceHelp, PipelineHelp, VaeHelp, console, pipeline_of


def finetune(
    images: Annotated[Path, typer.Option(help="A folder of images (any depth); their centre squares are learnt.")],
    out: Annotated[
        Path,
        typer.Option(help="A new folder for the whole pipeline, or for LoRA's weights alone; an interrupted run goes on."),
    ],
    pipeline: Annotated[str, typer.Option(help=PipelineHelp)] = "tiny-sd",
    vae: Annotated[str | None, typer.Option(help="Encodes the images in place of the pipeline's. " + VaeHelp)] = None,
    captions: Annotated[
        Path | None, typer.Option(help="A .jsonl or .csv with text and file_name, which is a path below --images.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="One caption for all, in place of those in the folder.")] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Train LoRA of this rank; 0 trains all of the UNet.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=0, help="At its peak, after 20 steps; then a cosine.")] = 1e-4,
    precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the order, the noise and the left-out captions.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
) -> None:
    """Fine-tune a pipeline's UNet on captioned images: metadata.jsonl or .csv in the folder, or a .txt beside each.

    Every image needs a caption; --prompt gives all of them one.

    Example: `srlvae finetune --images mine --prompt "a photo of my cat" --out tuned`
    """
    from srlvae.cli.drawing import Bars
    from srlvae.finetune import FinetuneConfig
    from srlvae.finetune import finetune as run

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
    with Bars(console) as bars:
        run(loaded, images, out, config, captions=captions, prompt=prompt, listener=bars)
    console.print(f"\nTuned: [bold]{out}[/]")
    if lora_rank:
        console.print(f'Next, in Python: pipeline.load_lora_weights("{out}")', markup=False)
        console.print(f"For A1111, Forge and ComfyUI: {out / 'kohya_lora.safetensors'}", markup=False)
    else:
        console.print(f"Next: srlvae generate --pipeline {out} --prompt … --out FOLDER")
