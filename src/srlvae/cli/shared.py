"""What the commands share: the console, words of help, and what words on the command line stand for."""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from srlvae.config import MOST_SEED
from srlvae.errors import InputError
from srlvae.files import LEFT_OUT, read_record, shown
from srlvae.links import set_follow_links
from srlvae.words import counted

P = ParamSpec("P")
# Of processes that run together one speaks.
console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")

VaeHelp = (
    "A bundled VAE (`tiny`, `tiny-srl`; `taesd-srl` and `taef1-srl` where TAESD or TAEF1 can be loaded), a hub id such as "
    "`hf://owner/name/vae@revision:fp16`, a folder in diffusers' format or of a pipeline, or a file (LDM, TAESD, checkpoint)."
)
# As `srlvae.training.tracking` has them, which is slow to load.
Tracker = Literal["tensorboard", "trackio", "wandb"]
ReportHelp = "Also send curves and pictures of the training to this tracker. The log in --out is written in any case."
# One wording for all commands.
ResumesHelp = "The same command resumes an interrupted run."
PipelineHelp = (
    "A pipeline like Stable Diffusion's: a folder in diffusers' format, a checkpoint in one file inside such a folder, a hub "
    "id such as `hf://owner/name@revision:fp16`, or the bundled `tiny-sd`."
)
JsonHelp = "Print JSON, for scripts."
StrictHelp = "Stop at the first file that cannot be used, instead of leaving it out."
LinksHelp = "Also follow links that lead out of the given folders."
PixelsHelp = "Read images of up to this many pixels. By default 89 million, as a larger one may be a decompression bomb."
# Begins a paragraph of commands in a help text.
EXAMPLES = "For example:"
# The exit code of a command that has done its work, but for files that it left out.
LEFT_FILES_OUT = 3
# How many of them it names; the table in the output folder names all.
NAMED = 50
PrecisionHelp = "Precision of the networks: no (float32), bf16, fp16, or auto (bf16 where the machine has it)."
WITHOUT_NUMBERS = ("meta",)  # devices on which tensors have shapes alone
DeviceHelp = "`cpu`, `cuda`, `cuda:1`, `mps` and so on; `auto` takes a GPU if there is one."


def device_of(name: str) -> Any:
    """The torch device called `name`; for `auto` a GPU if there is one. Raises InputError for a device that is not there."""
    import torch

    from srlvae.devices import default_device, fast_products
    from srlvae.training.processes import processes, too_few_gpus

    fast_products()
    if name == "auto":
        # Of processes that run together each has a GPU of its own, or all of them share the first.
        return default_device() if too_few_gpus() or not torch.accelerator.is_available() else processes().device
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    if device.type in WITHOUT_NUMBERS:
        raise InputError(f"no device {name!r} here that computes")
    return device


def pipeline_of(source: str, vae: str | None, device: str, precision: str = "no"):
    """The pipeline, loaded without the libraries' own bars."""
    from srlvae.models.load import load_pipeline
    from srlvae.precision import settled

    precision = settled(precision, on := device_of(device))
    quiet_libraries()
    loaded = load_pipeline(source, vae, on)
    loaded.precision = precision
    return loaded


def quiet_libraries() -> None:
    """Switch off the libraries' own bars over files that are there already (downloads keep theirs)."""
    from diffusers.utils import logging as of_diffusers

    from srlvae.extras import need

    need("pipeline", "transformers")
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()


def sensible(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command refuse numbers that are not finite or that nobody counts to. Keep the lines of examples in its help."""

    @functools.wraps(command)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        for name, given in inspect.signature(command).bind(*args, **kwargs).arguments.items():
            for value in given if isinstance(given, list) else [given]:
                _check_number("--" + name.replace("_", "-"), value)
        command(*args, **kwargs)

    # Click joins the lines of a paragraph unless it begins with this character.
    checked.__doc__ = re.sub(rf"^( *)(?={EXAMPLES}$)", r"\1" + "\b\n" + r"\1", command.__doc__ or "", flags=re.M)
    return checked


def _check_number(option: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{option} must be a finite number, got {value}")
    if isinstance(value, int) and abs(value) > MOST_SEED:
        raise InputError(f"{option} is {value}, which is too large")


def named(path: Any) -> str:
    """A path, or a text with one, to be printed as it is, in one line: without what the console or a terminal would obey."""
    return escape(shown(path))


def quoted(text: object) -> str:
    """A path or a text, printed as `shown` does, as one word of a command that a reader may copy."""
    return shlex.quote(shown(text))


def let_in(max_pixels: int | None = None, follow_links: bool = False) -> None:
    """Let images of up to `max_pixels` be read, and links out of a folder be followed."""
    set_follow_links(follow_links)
    if max_pixels is not None:
        from srlvae.images import set_max_pixels

        set_max_pixels(max_pixels)


def begin(out: Path, follow_links: bool) -> None:
    """Let links in, and tell the other processes of a benchmark, before models are loaded, that this one is alive."""
    from srlvae.bench.cache import CACHE, announce

    let_in(follow_links=follow_links)
    announce(out / CACHE)


def end(omissions: Collection[Any], outs: Sequence[Path], inputs: Sequence[Path] = (), known: Collection[str] = ()) -> None:
    """What a command that reads images does last: say what was left out, and exit with LEFT_FILES_OUT if that was any file.

    `outs` are the folders in which tables may name it, and `inputs` those whose other files are counted, but for those of the
    suffixes `known`.
    """
    from srlvae.images import count_others

    counts = sum((count_others(path) for path in inputs), Counter[str]())
    if others := Counter({suffix: count for suffix, count in counts.items() if suffix not in known}):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(10))
        console.print(
            f"Not looked at, as their names are not those of images: {counted(others.total(), 'file')} ({named(kinds)})"
        )
    whole, parts = ([o for o in omissions if o.whole is of_all] for of_all in (True, False))
    for listed, what in ((parts, "not used of"), (whole, "[yellow]left out[/]")):
        for omission in listed[:NAMED]:
            console.print(f"{what} {named(omission.file)}: {named(omission.reason)}", soft_wrap=True)
        if len(listed) > NAMED:
            console.print(f"and {len(listed) - NAMED} more")
    if omissions:
        tables = " and ".join(named(out / LEFT_OUT) for out in outs if (out / LEFT_OUT).exists())
        said = f"[bold]Left out: {len(whole)} files or folders, and parts of {len(parts)}[/]"
        console.print(f"{said}; all are in [bold]{tables}[/]", soft_wrap=True)
    # A launcher of several processes takes it for a failure.
    if whole and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise typer.Exit(LEFT_FILES_OUT)


def show_scores(folder: Path) -> None:
    """Print the scores before and after that a hardening run left in its folder."""
    from srlvae.harden.output import RECORD, score_rows

    show_table(["", "original", "hardened"], score_rows(read_record(folder / RECORD)))


def show_json(value: Any) -> None:
    """Print a value for scripts, as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_doubts(doubts: Iterable[str]) -> None:
    """Print what speaks against believing attacks."""
    for doubt in doubts:
        console.print(f"[yellow]Do not believe[/] {named(doubt)}")


def show_table(header: list[str], rows: Iterable[Sequence[str]], markup: bool = False) -> None:
    """Print a table; each line becomes a list where the terminal is too narrow. Cells are no markup unless `markup` says so."""
    clean = str if markup else named
    header, rows = [clean(title) for title in header], [[clean(cell) for cell in row] for row in rows]
    table = Table(padding=(0, 1) if len(header) <= 6 else 0)  # many columns stand close
    for i, column in enumerate(header):
        # Where there are few columns the numbers stay whole on a narrow terminal, where there are many the names do.
        table.add_column(column, overflow="fold", no_wrap=(i > 0) if len(header) <= 4 else i == 0)
    for row in rows:
        table.add_row(*row)
    # Of a table that no terminal cuts off: how wide it is with its words whole.
    if Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= console.width:
        console.print(table)
        return
    for name, *cells in rows:
        console.print(f"[bold]{name}[/]")
        for title, cell in zip(header[1:], cells, strict=True):
            if cell:
                console.print(f"  {title}: {cell}")
