"""`srlvae app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import DeviceHelp, PipelineHelp, VaeHelp, console, device_of, named, quiet_libraries
from srlvae.errors import InputError


def app(
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline that edits. By default `tiny-sd`, unless --vae is given. " + PipelineHelp)
    ] = None,
    vae: Annotated[str | None, typer.Option(help="The original VAE, in place of the pipeline's. " + VaeHelp)] = None,
    hardened: Annotated[
        str | None, typer.Option(help="What `srlvae harden` made of the original. By default `tiny-srl`, for the bundled one.")
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(
            help="A folder of clean photographs for the scan. By default squares of photographs that come with scikit-image."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=1024,
            help="Side in pixels of the squares that pictures are cut to. By default what the pipeline was made for.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    jobs: Annotated[int, typer.Option(min=1, help="Pieces of work at once, over all users. Others wait.")] = 1,
    share: Annotated[bool, typer.Option("--share", help="Make a public link through Gradio's servers.")] = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Read pictures of up to this many pixels.")] = 25_000_000,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
) -> None:
    """Open a page in the browser to try everything on.

    It attacks, edits and scans pictures, and compares encoders. Only this machine can reach the page. It sends nothing to
    others, and deletes uploads. Ctrl-C ends it.

    For example:
      srlvae app
      srlvae app --pipeline FOLDER_OR_HUB_ID --hardened my-vae
      srlvae app --vae madebyollin/taesd --hardened my-taesd --port 8000
    """
    from srlvae.extras import need

    if not hardened and (vae not in (None, "tiny") or pipeline not in (None, "tiny-sd")):
        raise InputError("give --hardened: what srlvae harden made of the original VAE")
    need("app", "gradio")
    from srlvae.app.models import Choice
    from srlvae.app.page import is_local, serve
    from srlvae.images import set_max_pixels

    quiet_libraries()
    set_max_pixels(max_pixels)
    choice = Choice(pipeline or (None if vae else "tiny-sd"), vae, hardened or "tiny-srl", size, device_of(device))
    if share or not is_local(host):
        console.print("[yellow]Others can reach this page:[/] whoever knows its address can use this machine to compute.")
    console.print("starting …")
    serve(
        choice,
        host,
        port,
        clean=clean,
        jobs=jobs,
        share=share,
        started=lambda address: console.print(f"Open [bold]{named(address)}[/] in a browser. Ctrl-C ends it."),
    )
