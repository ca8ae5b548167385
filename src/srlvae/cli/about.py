"""`srlvae doctor` and `srlvae models`: what is installed here, and what comes with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from srlvae.cli.shared import console, named


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the Hugging Face hub can be reached.")] = False,
) -> None:
    """Show versions, device and memory, and which extras are missing.

    Example: `srlvae doctor --hub`
    """
    from srlvae.memory import free_memory, gigabytes
    from srlvae.provenance import environment, missing_extras

    for name, value in environment().items():
        console.print(f"{name}: {named(value)}")
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    console.print(f"GPU: {named(gpu)}\nfree memory: {gigabytes(free_memory())}\n")
    missing = missing_extras()
    for extra, (purpose, packages) in missing.items():
        words = f"missing for {purpose}: {', '.join(packages)}; run: pip install 'srlvae[{extra}]'"
        console.print(words, markup=False)
    if not missing:
        console.print("all extras are installed")
    if hub:
        from srlvae.models.hub import online

        console.print("hub: can be reached" if online() else "hub: cannot be reached")


def models() -> None:
    """List the models that come with the package, with the scores in their records.

    Example: `srlvae models`
    """
    from srlvae.files import read_record
    from srlvae.harden.output import RECORD, score_rows
    from srlvae.zoo import bundled, encoder_names, names

    lines = []
    for name in names():
        folder = bundled(name)
        record = folder / RECORD if folder else None
        scores = score_rows(read_record(record)) if record and record.is_file() else []
        lines.append([name, "\n".join(f"{label}: {before} → {after}" for label, before, after in scores)])
    lines += [[name, "an encoder file; srlvae apply puts it onto its VAE"] for name in encoder_names()]
    for name, told in lines:
        console.print(f"[bold]{named(name)}[/]")
        for line in told.splitlines():
            console.print(f"  {line}", markup=False)
