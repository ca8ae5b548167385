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
    ResumesHelp,
    StrictHelp,
    VaeHelp,
    console,
    device_of,
    end,
    let_in,
    named,
    pipeline_of,
    quoted,
    show_doubts,
    show_json,
    show_table,
)
from srlvae.errors import InputError
from srlvae.locks import holds


def _names() -> list[str]:
    from srlvae.attacks import ATTACKS

    return list(ATTACKS)


@holds("out")
def attack(
    name: Annotated[
        str, typer.Argument(help="Name of the attack; `--list` shows them.", metavar="NAME", autocompletion=_names)
    ] = "",
    images: Annotated[list[Path] | None, typer.Argument(help="Image files or folders.", metavar="IMAGE…")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Published settings, see --list. By default the attack's first preset.")
    ] = None,
    vae: Annotated[str | None, typer.Option(help="The VAE to attack. " + VaeHelp + " [default: tiny]")] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(help="The pipeline to attack, with --vae in it if that is given. " + PipelineHelp + " [default: tiny-sd]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for PNGs, records and a contact sheet. " + ResumesHelp)] = None,
    eps: Annotated[str | None, typer.Option(help="Budget, such as 8/255. By default the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Gradient steps. By default the preset's.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt for the pipeline, or for the target image that it generates.")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Image that the attacked one is to be mistaken for.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask image. White pixels may change; these are the ones that inpainting keeps.")
    ] = None,
    also: Annotated[
        str | None, typer.Option(help="A second VAE to attack at the same time. The two objectives are added.")
    ] = None,
    through: Annotated[
        str | None,
        typer.Option(help="Average the gradient over random draws of `jpeg`, `resize` or `sampling`, to survive them."),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Random draws of --through in each step, by default 4.")] = None,
    restarts: Annotated[
        int | None, typer.Option(min=1, help="Random starts, of which the best is kept. By default the preset's.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="Network that measures a perceptual budget, such as lpips-alex.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time, halved if memory runs out.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for starts and draws.")] = 0,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    precision: Annotated[str, typer.Option(help=PrecisionHelp)] = "no",
    resume: Annotated[bool, typer.Option(help="Whether to keep images in --out that were made with the same settings.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the attacks with their presets and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list, print JSON, for scripts.")] = False,
) -> None:
    """Perturb images so that a VAE or a pipeline misreads them.

    Writes PNGs within the budget, with a JSON record beside each.

    Exit code 3: done, except for files that could not be used. `left-out.csv` in --out lists them.

    For example:
      srlvae attack --list
      srlvae attack photoguard-encoder photo.png --vae tiny --out attacked
      srlvae attack mist-fused photographs --eps 8/255 --out misted
    """
    from srlvae.attacks import ATTACKS

    if show_list:
        from srlvae.report.tables import PASSES, attack_json, attack_list

        if as_json:
            show_json(attack_json(ATTACKS))
        else:
            show_table(*attack_list(ATTACKS), markup=True)
            console.print(PASSES)
        return
    if not name or not images or out is None:
        missing = {"an attack": not name, "images": not images, "--out": out is None}
        listed = ", ".join(what for what, is_missing in missing.items() if is_missing)
        raise InputError(f"give {listed}; srlvae attack --list shows the attacks")
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
    show_table(*attacked_table(made))
    show_doubts(f"{Path(record['source']).name}: {doubt}" for record in made for doubt in record["doubts"])
    console.print(f"\nAttacked images: [bold]{named(out)}[/]\nContact sheet: [bold]{named(out / 'sheet.png')}[/]")
    console.print(f"Next: srlvae edit {quoted(out)} --prompt … --out FOLDER", markup=False)
    end(bars.omissions, [out], images)
