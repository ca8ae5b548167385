"""`srlvae bench all`: a model onto the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import (
    DeviceHelp,
    LinksHelp,
    PipelineHelp,
    ResumesHelp,
    VaeHelp,
    console,
    end,
    let_in,
    named,
    pipeline_of,
    sensible,
)
from srlvae.errors import InputError
from srlvae.locks import holds

# Those that both benchmarks have.
PROTOCOLS = ("quick", "full")


@sensible
@holds("out")
def bench_all(
    vae: Annotated[str, typer.Option(help="The hardened VAE. " + VaeHelp)],
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for both benchmarks and their pages. " + ResumesHelp)],
    pipeline: Annotated[str | None, typer.Option(help="The pipeline, in place of the protocol's. " + PipelineHelp)] = None,
    protocol: Annotated[str, typer.Option(help="`quick` or `full`, of both benchmarks.")] = "quick",
    name: Annotated[str | None, typer.Option(help="What to call the model. By default as in --vae.")] = None,
    who: Annotated[str, typer.Option(help="Who made it.")] = "",
    paper: Annotated[str, typer.Option(help="Where it was published, such as arXiv 2504.17219.")] = "",
    leaderboard: Annotated[Path | None, typer.Option(help="The leaderboard to add it to. By default one in --out.")] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    """Measure a hardened VAE and add it to a leaderboard.

    Runs the benchmarks `reconstruction` and `editing`.

    For example:
      srlvae bench all --vae tiny-srl --images photographs --out all
    """
    from srlvae.bench import leaderboard as board
    from srlvae.bench.cache import CACHE, announce
    from srlvae.bench.load_protocol import editing_protocol, reconstruction_protocol
    from srlvae.cli.drawing import Bars
    from srlvae.models.vae import load_vae
    from srlvae.report.page import write_report

    if protocol not in PROTOCOLS:
        raise InputError(
            f"bench all takes the protocols {' and '.join(PROTOCOLS)}, which both benchmarks have, not {protocol}; a file of "
            "your own goes to bench editing or bench reconstruction"
        )
    let_in(follow_links=follow_links)
    for part in ("reconstruction", "editing"):
        announce(out / part / CACHE)
    editing = editing_protocol(protocol, hardened=vae, **({"pipeline": pipeline} if pipeline else {}))
    loaded = pipeline_of(editing.pipeline, None, device)
    entry = board.Entry(name or vae, who, paper)
    protocols = reconstruction_protocol(protocol), editing
    with Bars(console) as bars:
        rows = board.bench_all(loaded, load_vae(vae, loaded.device), images, out, protocols, entry, leaderboard, bars)
    if not rows:
        return
    for result in (out / "reconstruction", out / "editing", leaderboard or out):
        console.print(f"Report: [bold]{named(write_report([result]))}[/]")
    end(bars.omissions, [out])
