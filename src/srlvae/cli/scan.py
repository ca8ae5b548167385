"""`srlvae scan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import DeviceHelp, PixelsHelp, StrictHelp, VaeHelp, console, device_of, end, let_in, named
from srlvae.locks import holds


@holds("out")
def scan(
    images: Annotated[Path, typer.Argument(help="A folder of images, at any depth.", metavar="DIR")],
    clean: Annotated[
        Path,
        typer.Option(
            help="A folder of clean images of the same source and size, for the threshold: 99 or more for a rate of .01."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Scores, table and page; an interrupted run goes on.")],
    original: Annotated[str, typer.Option(help="The VAE whose perturbations are to be found. " + VaeHelp)] = "tiny",
    hardened: Annotated[str, typer.Option(help="What srlvae harden made of it.")] = "tiny-srl",
    rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Share of clean images called suspicious.")] = 0.01,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
) -> None:
    """Find images that were perturbed: the original and the hardened encoder disagree on them.

    What is called suspicious is so at a chosen share of false alarms: no proof, and no word of who perturbed it and why. Of a
    picture that is unlike the clean images, such as a drawing among photographs, it says that it is, and nothing else.

    A second folder with the same --out has its table in a folder of its own there; the clean images are not looked at again.

    Exit code 3: done, but for files that could not be used; `left-out.csv` in --out names them, and that in its folder for the
    clean images those among them.

    Example: `srlvae scan downloads --clean photographs --out scanned`

    Several processes: `torchrun --nproc-per-node 2 -m srlvae scan …`
    """
    from srlvae.cli.drawing import Bars
    from srlvae.images import find_images
    from srlvae.models.vae import load_vae
    from srlvae.report.scan import scan_lines, write_scan_page
    from srlvae.scan import calibrate_looks, check_enough, clean_evidence, place_of, score, write_verdicts
    from srlvae.scan import scan as run
    from srlvae.training.processes import processes

    let_in(max_pixels)
    # Both, before one is worked on.
    find_images(images)
    check_enough(len(find_images(clean)), rate)
    where = device_of(device)
    vaes = load_vae(original, where), load_vae(hardened, where)
    place = place_of(out, images)
    with Bars(console, strict) as bars:
        known = run(*vaes, clean, clean_evidence(out, clean), bars)
        calibration = calibrate_looks([one.evidence for one in known if one.evidence], rate)
        scores = score(run(*vaes, images, place, bars), calibration)
    if not processes().is_main_process:
        return
    table = write_verdicts(place, scores, calibration, clean)
    page = write_scan_page(place, images, scores, calibration, str(clean))
    for line in scan_lines(scores, calibration):
        console.print(line, markup=False)
    console.print(f"\nTable: [bold]{named(table)}[/]\nPage: [bold]{named(page)}[/]")
    end(bars.omissions, [place, clean_evidence(out, clean)], [images])
