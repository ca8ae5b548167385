"""What the commands share: the console, words of help, and what words on the command line stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from srlvae.errors import InputError

# Of processes that run together one speaks.
console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")

VaeHelp = (
    "A folder in diffusers' format, a pipeline's folder, a single file (LDM, TAESD or a whole checkpoint), a hub id such as "
    "`owner/name/vae@revision:fp16`, or a bundled VAE (`tiny`, `tiny-srl`)."
)
PipelineHelp = (
    "A pipeline like Stable Diffusion's: a folder in diffusers' format, a checkpoint in one file inside such a folder, a hub "
    "id such as `owner/name@revision:fp16`, or the bundled `tiny-sd`."
)
DeviceHelp = "Such as cuda or cpu; by default a GPU where there is one."


def device_of(name: str) -> Any:
    """The torch device called `name`; for `auto` a GPU if there is one. Raises InputError for a device that is not there."""
    import torch

    from srlvae.training.processes import processes

    if name == "auto":
        # Of processes that run together each has a GPU of its own.
        return processes().device if torch.cuda.is_available() else torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error


def pipeline_of(source: str, vae: str | None, device: str):
    """The pipeline, without the libraries' own bars over files that are there already (downloads keep theirs)."""
    from diffusers.utils import logging as of_diffusers

    from srlvae.extras import need
    from srlvae.models.load import load_pipeline

    need("pipeline", "transformers")
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    return load_pipeline(source, vae, device_of(device))


def show_scores(folder: Path) -> None:
    """Print the scores before and after that a hardening run left in its folder."""
    import json

    from srlvae.harden.output import RECORD, score_rows

    show_table(["", "original", "hardened"], score_rows(json.loads((folder / RECORD).read_text())))


def show_table(header: list[str], rows) -> None:
    """Print a table: a header and lines of cells."""
    # Many columns stand close.
    table = Table(padding=(0, 1) if len(header) <= 6 else 0)
    for i, column in enumerate(header):
        # Where there are few columns the numbers stay whole on a narrow terminal, where there are many the names do.
        table.add_column(column, overflow="fold", no_wrap=(i > 0) if len(header) <= 4 else i == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)
