"""`srlvae attack`."""

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
    StrictHelp,
    VaeHelp,
    console,
    device_of,
    end,
    let_in,
    named,
    pipeline_of,
    show_table,
)
from srlvae.errors import InputError
from srlvae.locks import holds


@holds("out")
def attack(
    name: Annotated[str, typer.Argument(help="Name of the attack; `--list` shows them.", metavar="NAME")] = "",
    images: Annotated[list[Path] | None, typer.Argument(help="Image files or folders.", metavar="IMAGE…")] = None,
    preset: Annotated[str | None, typer.Option(help="A published setting, see --list; the attack's first by default.")] = None,
    vae: Annotated[str | None, typer.Option(help="The VAE that is attacked: " + VaeHelp)] = None,
    pipeline: Annotated[str | None, typer.Option(help="Attacked with --vae in it: " + PipelineHelp)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for PNGs, records and a contact sheet.")] = None,
    eps: Annotated[str | None, typer.Option(help="Budget, such as 8/255; the preset's by default.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Gradient steps; the preset's by default.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt for the pipeline, or for the image that serves as target.")] = None,
    target: Annotated[Path | None, typer.Option(help="Image that the attacked one should be mistaken for.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask image: white where pixels may change, which inpainting keeps.")
    ] = None,
    also: Annotated[str | None, typer.Option(help="A second VAE to attack at the same time; the objectives are added.")] = None,
    through: Annotated[str | None, typer.Option(help="Attack in expectation through jpeg, resize or sampling.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random draws of --through in each step.")] = 4,
    restarts: Annotated[int | None, typer.Option(min=1, help="Number of random starts; the best is kept.")] = None,
    features: Annotated[str | None, typer.Option(help="Network of a perceptual budget, such as lpips-alex.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time; halved if memory runs out.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for starts and draws.")] = 0,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    precision: Annotated[str, typer.Option(help=PrecisionHelp)] = "no",
    resume: Annotated[
        bool, typer.Option(help="Resume an interrupted run: keep images that were made with the same settings.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the attacks with their presets, and leave.")] = False,
) -> None:
    """Perturb images so that a VAE or a pipeline misreads them: PNGs within the budget, a JSON beside each.

    Exit code 3: done, but for files that could not be used; `left-out.csv` in --out names them.

    Example: `srlvae attack photoguard-encoder photo.png --vae madebyollin/taesd --out attacked`
    """
    from srlvae.attacks import ATTACKS

    if show_list:
        from srlvae.report.tables import attack_list

        show_table(*attack_list(ATTACKS))
        return
    if not name or not images or out is None:
        raise InputError("give an attack, images and --out; srlvae attack --list shows the attacks")
    from srlvae.attacks.files import attack_files
    from srlvae.attacks.prepared import prepare
    from srlvae.attacks.request import Request
    from srlvae.cli.drawing import Bars
    from srlvae.config import fraction
    from srlvae.models.vae import load_vae
    from srlvae.report.tables import attacked_table

    let_in(max_pixels, follow_links)
    request = Request(
        name,
        preset=preset,
        eps=fraction(eps) if eps else None,
        steps=steps,
        restarts=restarts,
        prompt=prompt,
        target=target,
        mask=mask,
        also=also,
        through=through,
        draws=draws,
        features=features,
        seed=seed,
        precision=precision,
    )
    if request.attack.needs == "vae":
        model = load_vae(vae or pipeline or "tiny", device_of(device))
    else:
        model = pipeline_of(pipeline or "tiny-sd", vae, device)
    with Bars(console, strict) as bars:
        made = attack_files(prepare(request, model), images, out, batch=batch, resume=resume, listener=bars)
    header, lines = attacked_table(made)
    show_table(header, [[named(cell) for cell in line] for line in lines])
    for record in made:
        for doubt in record["doubts"]:
            console.print(f"[yellow]do not believe[/] {named(Path(record['source']).name)}: {doubt}")
    console.print(f"\nAttacked images: [bold]{named(out)}[/]\nContact sheet: [bold]{named(out / 'sheet.png')}[/]")
    end(bars.omissions, [out], images)
