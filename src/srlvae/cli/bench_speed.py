"""`srlvae bench speed`: other ways to do the same, in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.shared import DeviceHelp, LinksHelp, VaeHelp, console, device_of, end, let_in, named, sensible, show_table
from srlvae.locks import holds


@sensible
@holds("out")
def bench_speed(
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    out: Annotated[Path, typer.Option(help="Folder for the times. The same command takes them anew.")],
    vae: Annotated[str | None, typer.Option(help="The VAE to time, in place of `tiny`. " + VaeHelp)] = None,
    hardened: Annotated[str | None, typer.Option(help="The hardened VAE of scans, in place of `tiny-srl`. " + VaeHelp)] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Time only `attacks`, `hardening`, `metrics`, `scan` or `start`. May be repeated.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Turns of each way.")] = None,
    count: Annotated[int | None, typer.Option("--n", help="Photographs to attack and to scan.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the centre squares in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every attack.")] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "cpu",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    """Measure the speed of attacks, hardening, metrics and scans.

    Each is timed beside other ways to do the same, in turns. On a CPU one core is used, and seconds are processor time.

    For example:
      srlvae bench speed --images photographs --out speed
    """
    import torch

    from srlvae.cli.drawing import Bars
    from srlvae.report.speed import speed_table
    from srlvae.speed import SpeedSettings, speed

    let_in(follow_links=follow_links)
    given: dict[str, Any] = {"vae": vae, "hardened": hardened, "parts": tuple(part or ()) or None, "rounds": rounds}
    given |= {"images": count, "size": size, "steps": steps}
    settings = SpeedSettings(**{key: value for key, value in given.items() if value is not None})
    found = device_of(device)
    torch.set_num_threads(1)
    with Bars(console) as bars:
        result = speed(images, out, settings, found, bars)
    show_table(*speed_table(result))
    for sentence in result["skipped"]:
        console.print(named(sentence))
    end(bars.omissions, [out])
