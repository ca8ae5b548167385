"""`srlvae scan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import DeviceHelp, VaeHelp, console, device_of


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
) -> None:
    """Find images that were perturbed: the original and the hardened encoder disagree on them.

    What is called suspicious is so at a chosen share of false alarms: no proof, and no word of who perturbed it and why.

    Example: `srlvae scan downloads --clean photographs --out scanned`

    Several processes: `torchrun --nproc-per-node 2 -m srlvae scan …`
    """
    from srlvae.cli.drawing import Bars
    from srlvae.images import count_others, find_images
    from srlvae.models.vae import load_vae
    from srlvae.report.scan import write_scan_page
    from srlvae.scan import calibrate, check_enough, clean_evidence, readable, score, write_verdicts
    from srlvae.scan import scan as run
    from srlvae.training.processes import processes

    check_enough(len(find_images(clean)), rate)
    where = device_of(device)
    vaes = load_vae(original, where), load_vae(hardened, where)
    with Bars(console) as bars:
        known = readable(run(*vaes, clean, clean_evidence(out, clean), bars))
        normal, threshold = calibrate(known, rate)
        scores = score(run(*vaes, images, out, bars), normal)
    if not processes().is_main_process:
        return
    table = write_verdicts(out, scores, threshold, clean, rate)
    page = write_scan_page(out, images, scores, threshold, f"the {len(known)} in {clean}", rate)
    found, total = sum(one.above(threshold) for one in scores), sum(one.value is not None for one in scores)
    console.print(f"{found} of {total} images are suspicious, with scores above {threshold:.3f}")
    console.print(f"if all were clean, about {rate * total:.1f} would be by chance")
    if total < len(scores):
        console.print(f"{len(scores) - total} could not be read; the table says why")
    if images.is_dir() and (others := count_others(images)):
        console.print(f"{others} other files were not looked at: their names are not those of images")
    console.print(f"\nTable: [bold]{table}[/]\nPage: [bold]{page}[/]")
