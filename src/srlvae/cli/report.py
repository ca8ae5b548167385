"""`srlvae report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import console, named
from srlvae.locks import hold


def report(
    folders: Annotated[list[Path], typer.Argument(help="What `srlvae bench` wrote.", metavar="DIR…")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page; the first DIR by default.")] = None,
) -> None:
    """Rebuild the page of a benchmark from its numbers; several runs of the editing benchmark side by side.

    Example: `srlvae report runs/bench`
    """
    from srlvae.report.page import write_report

    with hold(out or folders[0]):
        console.print(f"Report: [bold]{named(write_report(folders, out))}[/]")
