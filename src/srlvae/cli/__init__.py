"""The command line: thin. Each command reads its words, calls one function of the package and shows what came of it."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from srlvae.cli.about import doctor, models
from srlvae.cli.app import app as page
from srlvae.cli.attack import attack
from srlvae.cli.bench import bench
from srlvae.cli.export import export, push
from srlvae.cli.finetune import finetune
from srlvae.cli.harden import apply, harden
from srlvae.cli.pictures import edit, generate
from srlvae.cli.quickstart import quickstart
from srlvae.cli.report import report
from srlvae.cli.scan import scan
from srlvae.cli.shared import named, sensible
from srlvae.errors import InputError
from srlvae.malloc import keep_freed_memory

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        print(f"srlvae {version('srlvae')}")
        raise typer.Exit
    return wanted


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Harden the encoder you already have; everything downstream stays as it is.

    Start with `srlvae quickstart`, which takes minutes. `srlvae harden` hardens a VAE of your own, and `srlvae doctor` says
    what is installed and what is missing.
    """


COMMANDS = list[Callable[..., None]]((quickstart, harden, apply, export, push, attack, generate, edit, finetune, scan))
for command in COMMANDS:
    app.command()(sensible(command))
app.add_typer(bench, name="bench")
app.command()(sensible(report))
app.command("app")(sensible(page))
app.command()(sensible(models))
app.command()(sensible(doctor))


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _warn(message: Warning | str, *_: object) -> None:
    """Print a warning as all else is printed: it may quote a name."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]warning:[/] {named(message)}")


def _check_words(words: list[str]) -> None:
    """Refuse empty words, as a path of none is the folder where one stands, and a prompt that is no text. It may be empty."""
    for before, word in itertools.pairwise(words):
        if "--prompt" in (before, word.partition("=")[0]) and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise InputError("--prompt has bytes that are not text in UTF-8; write it in UTF-8")
        if (word == "" and before != "--prompt") or (word.startswith("--") and word.endswith("=") and word != "--prompt="):
            raise InputError(f"there is nothing after {before if word == '' else word}; give a value, or leave it out")


def main() -> None:
    """Entry point. Exit codes: 2 for bad input, 3 if all is done but for files left out, 130 after Ctrl-C or SIGTERM."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # The profiler, which measures memory, announces itself otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    signal.signal(signal.SIGTERM, _stop)
    warnings.showwarning = _warn
    keep_freed_memory()
    try:
        _check_words(sys.argv)
        app()
    except (InputError, ModuleNotFoundError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]error:[/] {named(' '.join(str(error).splitlines()))}"
        )
        sys.exit(2)
    except SystemExit as stop:
        # Typer makes 130 of a KeyboardInterrupt.
        if stop.code == 130:
            Console(stderr=True, soft_wrap=True).print("Stopped. The same command resumes the run.")
        raise
