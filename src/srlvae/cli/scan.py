"""`srlvae scan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from srlvae.cli.shared import (
    DeviceHelp,
    LinksHelp,
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
)
from srlvae.errors import InputError
from srlvae.locks import holds


@holds("out")
def scan(
    images: Annotated[
        str,
        typer.Argument(
            help="A folder of images, at any depth; or shards, .tar as from webdataset or .parquet as from img2dataset: one, "
            "a folder of them, or a pattern, also in a store such as `s3://bucket/*.tar`.",
            metavar="SOURCE",
        ),
    ],
    clean: Annotated[
        Path,
        typer.Option(
            help="A folder of clean images of the same source and size, which set the threshold. A rate of 0.01 needs 99."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for scores, table and page. " + ResumesHelp)],
    original: Annotated[str, typer.Option(help="The VAE whose perturbations are to be found. " + VaeHelp)] = "tiny",
    hardened: Annotated[str, typer.Option(help="What `srlvae harden` made of the original.")] = "tiny-srl",
    rate: Annotated[
        float,
        typer.Option(min=1e-6, max=1.0, help="False-alarm rate: the share of clean images that may be called suspicious."),
    ] = 0.01,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where images are looked at: in this process, or by Ray on this machine or a cluster."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers on Ray. By default one for each GPU, or one for each core if there is no GPU."),
    ] = None,
    precision: Annotated[
        Literal["auto", "no", "bf16", "fp16"],
        typer.Option(help=PrecisionHelp),
    ] = "auto",
    image_column: Annotated[
        str | None, typer.Option(help="The column of .parquet shards that has the images. Guessed by default.")
    ] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help=StrictHelp)] = False,
    max_pixels: Annotated[int | None, typer.Option(min=1, help=PixelsHelp)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Find perturbed images.

    The original and the hardened encoder disagree on them. Images are called suspicious at the false-alarm rate that you
    choose. This is no proof, and it says nothing about who perturbed an image or why. An image that is unlike the clean ones,
    such as a drawing among photographs, is reported as unlike and not judged.

    Several folders can be scanned into one --out. Each gets a folder of its own there, and the clean images are scanned once.

    Exit code 3: done, except for files that could not be used. `left-out.csv` in --out lists them, and a second one in the
    folder of the clean images lists those among them.

    --out gets a table and `scan.html`, a page of the most suspicious images. Each shard leaves a table of its own in
    `scan.parquet`; an interrupted scan resumes with the first shard that has none.

    For example:
      srlvae scan downloads --clean own-photographs --out scanned
      srlvae scan "shards/*.tar" --clean own-photographs --out scanned \
        --engine ray
      torchrun --nproc-per-node 2 -m srlvae scan downloads \
        --clean own-photographs --out scanned
    """
    from srlvae.cli.drawing import Bars
    from srlvae.images import find_images
    from srlvae.models.vae import load_vae
    from srlvae.report.scan import scan_lines, write_scan_page, write_shards_page
    from srlvae.scan import (
        Encoders,
        calibrate_looks,
        check_enough,
        clean_evidence,
        count,
        place_of,
        scan_shards,
        score,
        write_summary,
        write_verdicts,
    )
    from srlvae.scan import scan as look
    from srlvae.scan.shard_tables import SCORES
    from srlvae.scan.shards import shards_in
    from srlvae.training.processes import processes

    let_in(max_pixels, follow_links)
    # Both, before one is worked on.
    shards = shards_in(images)
    if not shards:
        find_images(Path(images))
        if image_column is not None:
            raise InputError(f"--image-column names a column of shards, but {images} has single images; leave it out")
    check_enough(len(find_images(clean)), rate)
    chosen = _engine(engine, workers)
    where = device_of(device)
    encoders = Encoders(load_vae(original, where), load_vae(hardened, where), precision)
    place, seen_clean = place_of(out, images), clean_evidence(out, clean)
    with Bars(console, strict) as bars:
        known = look(encoders, clean, seen_clean, bars)
        calibration = calibrate_looks([one.evidence for one in known if one.evidence], rate)
        found = scan_shards(encoders, images, place, calibration, bars, chosen, image_column) if shards else None
        scores = [] if found else score(look(encoders, Path(images), place, bars, chosen), calibration)
    if not processes().is_main_process:
        return
    counted = found.counted if found else count(scores, calibration.threshold)
    write_summary(place, counted, calibration, clean)
    if found:
        page = write_shards_page(place, images, found, calibration, str(clean), image_column)
        written = {"Table": place / SCORES, "Page": page}
    else:
        page = write_scan_page(place, Path(images), scores, calibration, str(clean))
        written = {"Table": write_verdicts(place, scores, calibration), "Page": page}
    console.print(f"Looked for what was made against {named(original)} (--original)")
    for line in scan_lines(counted, calibration):
        console.print(line, markup=False)
    console.print()
    for kind, path in written.items():
        console.print(f"{kind}: [bold]{named(path)}[/]")
    console.print("Next: look at what is suspicious, and leave it out of a training set or ask its author")
    end(bars.omissions, [place, seen_clean], [] if shards else [Path(images)])


def _engine(name: str, workers: int | None) -> Any:
    """The engine called `name`."""
    if name == "local" and workers:
        raise InputError("--workers counts workers on Ray; give --engine ray, or start several processes with torchrun")
    if name == "local":
        from srlvae.scan.engines import look_here

        return look_here
    from srlvae.scan.on_ray import ray_engine

    return ray_engine(workers)
