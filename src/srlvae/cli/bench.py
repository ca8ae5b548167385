"""The commands of `srlvae bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.bench_all import bench_all
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
    show_table,
)
from srlvae.cli.speed import bench_speed
from srlvae.locks import holds

bench = typer.Typer(no_args_is_help=True, help="Measure an original VAE beside its hardened twin.")
bench.command("all")(bench_all)


def _begin(out: Path, follow_links: bool) -> None:
    """Let links in, and tell the other processes, before models are loaded, that this one is alive."""
    from srlvae.bench.cache import CACHE, announce

    let_in(follow_links=follow_links)
    announce(out / CACHE)


@bench.command("reconstruction")
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

    _begin(out, follow_links)
    budgets = tuple(check_eps(fraction(text, "--eps")) for text in eps or ())
    given = {"eps": budgets or None, "images": count, "clean_images": clean_count, "steps": steps, "size": size, "seed": seed}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = reconstruction_protocol(protocol, **changed)
    with Bars(console) as bars:
        result = reconstruction(load_vae(original), load_vae(hardened), images, out, settings, bars)
    if not result:
        return
    show_table(*reconstruction_table(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@bench.command("hardening")
@sensible
@holds("out")
def bench_hardening(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `srlvae harden --snapshot-every` wrote.", metavar="RUN…")],
    original: Annotated[str, typer.Option(help="The original VAE. " + VaeHelp)],
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, curves and report. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`full`, or a TOML file like the reconstruction benchmark's.")] = "full",
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

    _begin(out, follow_links)
    settings = reconstruction_protocol(protocol, "hardening")
    with Bars(console) as bars:
        result = hardening(load_vae(original), runs, images, out, settings, bars)
    show_table(*hardening_table(result))
    if shares := cost_shares_table(result):
        show_table(*shares)
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@bench.command("editing")
@sensible
@holds("out")
def bench_editing(
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, cache, sheets and report. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`quick`, `full`, `fifteen`, `curves`, `sd15`, or a TOML file.")] = "quick",
    pipeline: Annotated[str | None, typer.Option(help="The pipeline, in place of the protocol's. " + PipelineHelp)] = None,
    hardened: Annotated[str | None, typer.Option(help="The hardened VAE, in place of the protocol's. " + VaeHelp)] = None,
    twin: Annotated[str | None, typer.Option(help="A VAE hardened with another seed, to make attacks on.")] = None,
    count: Annotated[int | None, typer.Option("--n", help="Photographs to edit. By default as the protocol says.")] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    r"""Measure edits of attacked photographs under each defence. This is the paper's main table.

    The edits are compared with the edits of the same photographs without an attack.

    For example:
      srlvae bench editing --images photographs --out edits
      torchrun --nproc-per-node 2 -m srlvae bench editing \
        --images photographs --out edits
    """
    from srlvae.bench.editing import editing
    from srlvae.bench.load_protocol import editing_protocol
    from srlvae.cli.drawing import Bars
    from srlvae.models.vae import load_vae
    from srlvae.report.defences import defence_table
    from srlvae.report.editing import summary_table
    from srlvae.report.page import write_report
    from srlvae.report.verdicts import verdicts

    _begin(out, follow_links)
    given = {"pipeline": pipeline, "hardened": hardened, "images": count, "twin": twin}
    changed = {key: value for key, value in given.items() if value is not None}
    settings = editing_protocol(protocol, **changed)
    loaded = pipeline_of(settings.pipeline, None, device)
    own = load_vae(settings.hardened, loaded.device)
    other = load_vae(settings.twin, loaded.device) if settings.twin else None
    with Bars(console) as bars:
        result = editing(loaded, own, images, out, settings, bars, other)
    if not result:
        return
    show_table(*summary_table(result, intervals=False))
    show_table(*defence_table(result))
    for true, text in verdicts(result):
        console.print(f"[green]✓[/] {named(text)}" if true else f"[yellow]✗[/] {named(text)}", markup=True)
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@bench.command("poisoning")
@sensible
@holds("out")
def bench_poisoning(
    images: Annotated[Path, typer.Option(help="Class folders of photographs that the pipeline may be trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, cache and sheets. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`quick`, `full`, or a TOML file.")] = "quick",
    pipeline: Annotated[str | None, typer.Option(help="The pipeline, in place of the protocol's. " + PipelineHelp)] = None,
    hardened: Annotated[str | None, typer.Option(help="The hardened VAE, in place of the protocol's. " + VaeHelp)] = None,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    follow_links: Annotated[bool, typer.Option("--follow-links", help=LinksHelp)] = False,
) -> None:
    """Measure whether poisoned training images take hold.

    Fine-tunes on clean images and on Nightshade's poisons, with either encoder, and judges the images generated afterwards.

    For example:
      srlvae bench poisoning --images class-folders --out poison
    """
    from srlvae.bench.load_protocol import poisoning_protocol
    from srlvae.bench.poisoning import poisoning
    from srlvae.cli.drawing import Bars
    from srlvae.metrics.clip import load_clip
    from srlvae.metrics.judge import load_judge
    from srlvae.models.vae import load_vae
    from srlvae.report.page import write_report
    from srlvae.report.poisoning import counts_table, defences_table

    _begin(out, follow_links)
    given = {"pipeline": pipeline, "hardened": hardened}
    changed = {key: value for key, value in given.items() if value is not None}
    settings = poisoning_protocol(protocol, **changed)
    loaded = pipeline_of(settings.pipeline, None, device)
    models = loaded, load_vae(settings.hardened, loaded.device)
    judges = load_clip(settings.clip), load_judge(settings.judge)
    with Bars(console) as bars:
        result = poisoning(*models, images, out, *judges, settings, bars)
    if not result:
        return
    show_table(*counts_table(result))
    show_table(*defences_table(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


bench.command("speed")(bench_speed)
