"""`srlvae doctor` and `srlvae models`: what is installed here, and what comes with the package."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from srlvae.cli.shared import JsonHelp, console, named, show_json


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the Hugging Face hub can be reached.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=JsonHelp)] = False,
) -> None:
    """Show versions, device, memory and missing extras.

    For example:
      srlvae doctor
      srlvae doctor --hub --json
    """
    import torch

    from srlvae.memory import free_memory, gigabytes
    from srlvae.provenance import environment, missing_extras

    versions, missing, free = environment(), missing_extras(), free_memory()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    reached = _hub_reached() if hub else None
    if as_json:
        extras = {extra: packages for extra, (_, packages) in missing.items()}
        show_json({**versions, "gpu": gpu, "free_memory": free, "missing": extras} | ({"hub": reached} if hub else {}))
        return
    for name, value in versions.items():
        console.print(f"{name}: {named(value)}")
    console.print(f"GPU: {named(gpu or 'none')}\nfree memory: {gigabytes(free)}\n")
    for extra, (purpose, packages) in missing.items():
        words = f"missing for {purpose}: {', '.join(packages)}; run: pip install 'srlvae[{extra}]'"
        console.print(words, markup=False)
    if not missing:
        console.print("all extras are installed")
    if hub:
        console.print("hub: can be reached" if reached else "hub: cannot be reached")


def _hub_reached() -> bool:
    from srlvae.models.hub import online

    return online()


def models(as_json: Annotated[bool, typer.Option("--json", help=JsonHelp)] = False) -> None:
    """List the bundled models with their scores.

    For example:
      srlvae models
      srlvae models --json
    """
    from srlvae.zoo import encoder_names, names

    listed = [_about(name) for name in (*names(), *encoder_names())]
    if as_json:
        show_json(listed)
        return
    for model in listed:
        console.print(f"[bold]{named(model['name'])}[/]: {model['about']}")
        for score in model["scores"]:
            console.print(f"  {score['measure']}: {score['original']} → {score['hardened']}", markup=False)


def _about(name: str) -> dict[str, Any]:
    """What a bundled model is, and its scores beside those of its original; none for what was not hardened."""
    from srlvae.files import read_record
    from srlvae.harden.output import RECORD, score_rows
    from srlvae.zoo import ABOUT, bundled

    folder = bundled(name)
    record = folder / RECORD if folder else None
    rows = score_rows(read_record(record)) if record and record.is_file() else []
    scores = [{"measure": label, "original": before, "hardened": after} for label, before, after in rows]
    return {"name": name, "about": ABOUT[name], "scores": scores}
