"""`srlvae bench editing`, `srlvae bench poisoning` and `srlvae bench mimicry`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.cli.shared import (
    DeviceHelp,
    LinksHelp,
    PipelineHelp,
    ResumesHelp,
    VaeHelp,
    begin,
    console,
    end,
    named,
    pipeline_of,
    sensible,
    show_doubts,
    show_table,
)
from srlvae.locks import holds

# What the three commands have in common.
PipelineOption = Annotated[str | None, typer.Option(help="The pipeline, in place of the protocol's. " + PipelineHelp)]
HardenedOption = Annotated[str | None, typer.Option(help="The hardened VAE, in place of the protocol's. " + VaeHelp)]
DeviceOption = Annotated[str, typer.Option(help=DeviceHelp)]
LinksOption = Annotated[bool, typer.Option("--follow-links", help=LinksHelp)]


def _loaded(protocol_of: Callable[..., Any], name: str, device: str, **given: Any) -> tuple[Any, Any, Any]:
    """The protocol with what is given in place of its own, its pipeline, and its hardened VAE."""
    from srlvae.models.vae import load_vae

    settings = protocol_of(name, **{key: value for key, value in given.items() if value is not None})
    pipeline = pipeline_of(settings.pipeline, None, device)
    return settings, pipeline, load_vae(settings.hardened, pipeline.device)


@sensible
@holds("out")
def bench_editing(
    images: Annotated[Path, typer.Option(help="A folder of photographs that were not trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, cache, sheets and report. " + ResumesHelp)],
    protocol: Annotated[
        str, typer.Option(help="`quick`, `paper`, `full`, `fifteen`, `curves`, `sd15`, or a TOML file.")
    ] = "quick",
    pipeline: PipelineOption = None,
    hardened: HardenedOption = None,
    twin: Annotated[str | None, typer.Option(help="A VAE hardened with another seed, to make attacks on.")] = None,
    count: Annotated[int | None, typer.Option("--n", help="Photographs to edit. By default as the protocol says.")] = None,
    device: DeviceOption = "auto",
    follow_links: LinksOption = False,
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
    from srlvae.report.rows import doubts_of
    from srlvae.report.verdicts import verdicts

    begin(out, follow_links)
    given = {"pipeline": pipeline, "hardened": hardened, "images": count, "twin": twin}
    settings, loaded, own = _loaded(editing_protocol, protocol, device, **given)
    other = load_vae(settings.twin, loaded.device) if settings.twin else None
    with Bars(console) as bars:
        result = editing(loaded, own, images, out, settings, bars, other)
    if not result:
        return
    show_table(*summary_table(result, intervals=False))
    show_table(*defence_table(result))
    for true, text in verdicts(result):
        console.print(f"[green]✓[/] {named(text)}" if true else f"[yellow]✗[/] {named(text)}", markup=True)
    show_doubts(doubts_of(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@sensible
@holds("out")
def bench_poisoning(
    images: Annotated[Path, typer.Option(help="Class folders of photographs that the pipeline may be trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, cache and sheets. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`quick`, `full`, or a TOML file.")] = "quick",
    pipeline: PipelineOption = None,
    hardened: HardenedOption = None,
    device: DeviceOption = "auto",
    follow_links: LinksOption = False,
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
    from srlvae.report.page import write_report
    from srlvae.report.poisoning import counts_table, defences_table
    from srlvae.report.rows import doubts_of

    begin(out, follow_links)
    settings, loaded, own = _loaded(poisoning_protocol, protocol, device, pipeline=pipeline, hardened=hardened)
    judges = load_clip(settings.clip), load_judge(settings.judge)
    with Bars(console) as bars:
        result = poisoning(loaded, own, images, out, *judges, settings, bars)
    if not result:
        return
    show_table(*counts_table(result))
    show_table(*defences_table(result))
    show_doubts(doubts_of(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])


@sensible
@holds("out")
def bench_mimicry(
    images: Annotated[Path, typer.Option(help="Class folders of photographs, of which pictures in a style are made.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, cache, sheets and report. " + ResumesHelp)],
    protocol: Annotated[str, typer.Option(help="`quick`, `full`, or a TOML file.")] = "quick",
    pipeline: PipelineOption = None,
    hardened: HardenedOption = None,
    device: DeviceOption = "auto",
    follow_links: LinksOption = False,
) -> None:
    """Measure whether protected pictures teach a style.

    Fine-tunes on pictures under Glaze, Mist and Anti-DreamBooth, with either encoder and behind purifiers.
    A judge says which images generated afterwards are in the style.

    For example:
      srlvae bench mimicry --images class-folders --out mimicry
    """
    from srlvae.bench.load_protocol import mimicry_protocol
    from srlvae.bench.mimicry import mimicry
    from srlvae.cli.drawing import Bars
    from srlvae.report.mimicry import mimicry_table
    from srlvae.report.page import write_report
    from srlvae.report.rows import doubts_of

    begin(out, follow_links)
    settings, loaded, own = _loaded(mimicry_protocol, protocol, device, pipeline=pipeline, hardened=hardened)
    with Bars(console) as bars:
        result = mimicry(loaded, own, images, out, settings, bars)
    if not result:
        return
    show_table(*mimicry_table(result))
    show_doubts(doubts_of(result))
    console.print(f"\nReport: [bold]{named(write_report([out]))}[/]")
    end(bars.omissions, [out])
