"""`srlvae report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import console, named
from srlvae.locks import hold


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that `srlvae bench` wrote, or a leaderboard's file.", metavar="DIR…")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page; by default the first DIR, or that of the file.")
    ] = None,
) -> None:
    """Write the page of a benchmark again, or one of several runs.

    Nothing is measured again. Several runs have to be of the editing benchmark; they are shown side by side.

    For example:
      srlvae report runs/bench
      srlvae report runs/editing runs/another-editing --out runs/both
    """
    from srlvae.report.page import write_report

    first = folders[0]
    with hold(out or (first.parent if first.is_file() else first)):
        console.print(f"Report: [bold]{named(write_report(folders, out))}[/]")
