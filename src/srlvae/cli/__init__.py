"""The command line: thin. Each command reads its words, calls one function of the package and shows what came of it."""

from __future__ import annotations

import os
import signal
import sys

import typer
from rich.console import Console

from srlvae.cli.app import app as page
from srlvae.cli.attack import attack
from srlvae.cli.bench import bench
from srlvae.cli.export import export, push
from srlvae.cli.finetune import finetune
from srlvae.cli.harden import apply, harden
from srlvae.cli.malloc import keep_freed_memory
from srlvae.cli.pictures import edit, generate
from srlvae.cli.quickstart import quickstart
from srlvae.cli.report import report
from srlvae.cli.scan import scan
from srlvae.cli.shared import named
from srlvae.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.callback()
def about() -> None:
    """Harden the encoder you already have; everything downstream stays as it is.

    Start with `srlvae quickstart`.
    """


for command in (quickstart, harden, apply, export, push, attack, generate, edit, finetune, scan):
    app.command()(command)
app.add_typer(bench, name="bench")
app.command()(report)
app.command("app")(page)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point. Exit codes: 2 for bad input, 3 if all is done but for files left out, 130 after Ctrl-C or SIGTERM."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # The profiler, which measures memory, announces itself otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    signal.signal(signal.SIGTERM, _stop)
    keep_freed_memory()
    try:
        app()
    except (InputError, ModuleNotFoundError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {named(error)}")
        sys.exit(2)
    except SystemExit as stop:
        # Typer makes 130 of a KeyboardInterrupt.
        if stop.code == 130:
            Console(stderr=True, soft_wrap=True).print("stopped; the same command goes on where it was")
        raise
