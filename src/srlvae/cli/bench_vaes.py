"""`srlvae bench reconstruction` and `srlvae bench hardening`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.shared import (
    DeviceHelp,
    LinksHelp,
    ResumesHelp,
    VaeHelp,
    begin,
    console,
    device_of,
    end,
    named,
    sensible,
    show_doubts,
    show_table,
)
from srlvae.locks import holds


@sensible
@holds("out")
def bench_reconstruction(
    original: Annotated[str, typer.Option(help="The original VAE. " + VaeHelp)],
    hardened: Annotated[str, typer.Option(help="The hardened VAE, given in the same ways.")],
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, table, plot, pictures and report. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`full`, `quick`, or a TOML file.")] = "full",
    eps: Annotated[
        list[str] | None, typer.Option(help="A budget such as 15/255, in place of the protocol's. May be repeated.")
    ] = None,
    count: Annotated[int | None, typer.Option("--n", help="Photographs to attack. By default as the protocol says.")] = None,
    clean_count: Annotated[
        int | None, typer.Option("--clean-n", help="Photographs in the clean row. By default as the protocol says.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every attack. By default as the protocol says.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the centre squares in pixels. By default as the protocol says.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Random seed for the choice of photographs and the attacks. By default as the protocol says."),
    ] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Measure latents and reconstructions, clean and attacked.

    Every attack is made on the original VAE (transfer) and on the hardened one (white-box), at each budget.

    For example:
      srlvae bench reconstruction --original tiny --hardened tiny-srl \
        --images photographs --out bench
    """
    from srlvae.bench.load_protocol import reconstruction_protocol
    from srlvae.bench.reconstruction import reconstruction
    from srlvae.cli.drawing import Bars
    from srlvae.config import fraction
    from srlvae.images import check_eps
    from srlvae.models.vae import load_vae
    from srlvae.report.encoders import reconstruction_table
    from srlvae.report.page import write_report
    from srlvae.report.rows import doubts_of

    begin(out, follow_links)
    budgets = tuple(check_eps(fraction(text, "--eps")) for text in eps or ())
    given = {"eps": budgets or None, "images": count, "clean_images": clean_count, "steps": steps, "size": size, "seed": seed}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings, where = reconstruction_protocol(protocol, **changed), device_of(device)
    with Bars(console) as bars:
        vaes = load_vae(original, where), load_vae(hardened, where)
        result = reconstruction(*vaes, images, out, settings, bars)
    if not result:
        return
    show_table(*reconstruction_table(result))
    show_doubts(doubts_of(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@sensible
@holds("out")
def bench_hardening(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `srlvae harden --snapshot-every` wrote.", metavar="RUN…")],
    original: Annotated[str, typer.Option(help="The original VAE. " + VaeHelp)],
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, curves and report. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`full`, or a TOML file like the reconstruction benchmark's.")] = "full",
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Measure how fast hardening works.

    Shows robustness and fidelity of the encoders that each run kept, over the time that they took.

    For example:
      srlvae bench hardening runs/srl runs/fare --original tiny \
        --images photographs --out speed
    """
    from srlvae.bench.hardening import hardening
    from srlvae.bench.load_protocol import reconstruction_protocol
    from srlvae.cli.drawing import Bars
    from srlvae.models.vae import load_vae
    from srlvae.report.hardening import cost_shares_table, hardening_table
    from srlvae.report.page import write_report
    from srlvae.report.rows import doubts_of

    begin(out, follow_links)
    settings = reconstruction_protocol(protocol, "hardening")
    with Bars(console) as bars:
        result = hardening(load_vae(original, device_of(device)), runs, images, out, settings, bars)
    show_table(*hardening_table(result))
    if shares := cost_shares_table(result):
        show_table(*shares)
    show_doubts(doubts_of(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])
