"""The commands that make pictures: `srlvae generate` and `srlvae edit`."""

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
    ResumesHelp,
    StrictHelp,
    VaeHelp,
    console,
    end,
    let_in,
    named,
    pipeline_of,
    quoted,
)
from srlvae.locks import holds
from srlvae.models.edit_settings import GUIDANCE, STEPS, STRENGTH, EditSettings


@holds("out")
def generate(
    prompt: Annotated[list[str], typer.Option(help="What to show. May be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder for PNGs, a contact sheet and a record. " + ResumesHelp)],
    pipeline: Annotated[str, typer.Option(help=PipelineHelp)] = "tiny-sd",
    count: Annotated[int, typer.Option("--n", min=1, max=100_000, help="Images for each prompt.")] = 4,
    vae: Annotated[str | None, typer.Option(help="A VAE to use in place of the pipeline's. " + VaeHelp)] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = STEPS,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance; 1 switches it off.")] = GUIDANCE,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for the noise. Image i of every prompt starts from the same noise.")
    ] = 0,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    precision: Annotated[str, typer.Option(help=PrecisionHelp)] = "no",
) -> None:
    """Generate images from prompts.

    Exit code 3: done, except for images that the pipeline's safety checker blacked out. `left-out.csv` in --out lists them.

    For example:
      srlvae generate --prompt "a photo of a starfish" --out made
    """
    from srlvae.cli.drawing import Bars
    from srlvae.edits import generate_files

    loaded = pipeline_of(pipeline, vae, device, precision)
    with Bars(console) as bars:
        settings = {"count": count, "steps": steps, "guidance": guidance, "seed": seed}
        sheet = generate_files(loaded, prompt, out, **settings, listener=bars)
    console.print(f"\nImages: [bold]{named(out)}[/]\nContact sheet: [bold]{named(sheet)}[/]")
    console.print(f"Next: srlvae edit {quoted(out)} --prompt … --out FOLDER", markup=False)
    end(bars.omissions, [out])


@holds("out")
def edit(
    images: Annotated[list[Path], typer.Argument(help="Image files or folders.", metavar="IMAGE…")],
    prompt: Annotated[str, typer.Option(help="What the edited images should show.")],
    out: Annotated[Path, typer.Option(help="Folder for PNGs, a contact sheet and a record. " + ResumesHelp)],
    pipeline: Annotated[str, typer.Option(help=PipelineHelp)] = "tiny-sd",
    strength: Annotated[
        float, typer.Option(help="Share of the denoising steps that run, above 0. Small values keep the image, 1 forgets it.")
    ] = STRENGTH,
    vae: Annotated[str | None, typer.Option(help="A VAE to use in place of the pipeline's. " + VaeHelp)] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps at strength 1.")] = STEPS,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance; 1 switches it off.")] = GUIDANCE,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the noise. The noise also depends on the file's name.")] = 0,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    precision: Annotated[str, typer.Option(help=PrecisionHelp)] = "no",
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Edit images with a prompt.

    Images are cut to their centre squares.

    Exit code 3: done, except for files that could not be used. `left-out.csv` in --out lists them.

    For example:
      srlvae edit photo.png --prompt "a photo of a motorbike" --out edited
      srlvae edit photo.png --prompt "a photo of a motorbike" --vae tiny-srl \
        --out edited-hardened
    """
    from srlvae.cli.drawing import Bars
    from srlvae.edits import edit_files

    let_in(max_pixels, follow_links)
    loaded = pipeline_of(pipeline, vae, device, precision)
    settings = EditSettings(strength=strength, steps=steps, guidance=guidance)
    with Bars(console, strict) as bars:
        sheet = edit_files(loaded, images, prompt, out, settings, seed=seed, listener=bars)
    console.print(f"\nEdited images: [bold]{named(out)}[/]\nContact sheet: [bold]{named(sheet)}[/]")
    console.print("Next: the same command with another --vae and --out, to compare the two encoders", markup=False)
    end(bars.omissions, [out], images)
