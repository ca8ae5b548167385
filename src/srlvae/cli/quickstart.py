"""`srlvae quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import ResumesHelp, console, named, show_scores
from srlvae.locks import holds


@holds("out")
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for photographs, VAE, measurements and report. " + ResumesHelp)] = Path(
        "quickstart"
    ),
) -> None:
    """Harden and attack the bundled VAE, and write a report.

    It takes minutes on a laptop. The photographs come with scikit-image, and nothing is downloaded.

    For example:
      srlvae quickstart --out runs/quickstart
    """
    from srlvae.cli.drawing import Bars
    from srlvae.quickstart import quickstart as run

    with Bars(console) as bars:
        page = run(out, bars)
    show_scores(out / "vae")
    console.print(f"\nReport: [bold]{named(page)}[/]\nNext, your own: srlvae harden VAE --images FOLDER --out FOLDER")
