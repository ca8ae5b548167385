"""What long work looks like in a terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from srlvae.harden import Listener, Objective, Plan

# Steps between lines in a log file.
LOGGED = 50


class Stop:
    """A wish to stop at the next step, by Ctrl-C or SIGTERM; by a second one at once."""

    def __init__(self, console: Console):
        self.console, self.wanted = console, False

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _request(self, number, frame) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        self.console.print("stopping after this step; again to stop at once")


class Drawing(Listener):
    """A run's plan, its bar with losses and scores, and a stop at the next step on Ctrl-C or SIGTERM."""

    def __init__(self, console: Console):
        self.console, self.stop, self.main = console, Stop(console), False
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, TextColumn("{task.fields[notes]}"), console=console)
        self.losses, self.scores = "", ""

    def __enter__(self) -> Drawing:
        self.stop.__enter__()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()
        self.stop.__exit__()

    def planned(self, plan: Plan) -> None:
        self.main = True
        config = plan.config
        self.console.print(
            f"[bold]{plan.vae}[/]\n"
            f"training {plan.trained}: {plan.parameters:,} parameters on {plan.device}, precision {plan.precision}, "
            f"{plan.processes} process{'es' if plan.processes > 1 else ''}\n"
            f"{plan.photographs:,} photographs, {plan.held_out} more set apart; {config.steps} steps of {config.batch_size} "
            f"crops of {config.resolution} pixels\n"
            f"inner attacks: {_attacks(config.objective)}\n"
            f"minimised: {_terms(config.objective)}\n"
            f"memory, estimated: {plan.memory / 2**30:.1f} GiB"
        )
        if plan.first_step:
            self.console.print(f"going on after step {plan.first_step}")
        self.progress.start()
        self.task = self.progress.add_task("hardening", total=config.steps, completed=plan.first_step, notes="")

    def stepped(self, step: int, losses: dict[str, float]) -> None:
        self.losses = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self._update(step)

    def scored(self, step: int, shift_clean: float, shift_attacked: float) -> None:
        self.scores = f"[bold]latents moved by {shift_clean:.3f} clean, {shift_attacked:.3f} attacked[/]  "
        self._update(step)
        if not self.console.is_terminal:  # no bar in a log file
            self.console.print(f"step {step}: {self.scores}{self.losses}")

    def scoring(self) -> None:
        self.progress.stop()
        self.console.print("comparing before and after …")

    def should_stop(self) -> bool:
        return self.stop.wanted

    def _update(self, step: int) -> None:
        self.progress.update(self.task, completed=step, notes=self.scores + self.losses)


def _attacks(objective: Objective) -> str:
    said = [f"{a.aim} on the {a.on} encoder within {a.eps * 255:.0f}/255" for a in objective.attacks if a.share]
    return ", ".join(said) or "none"


def _terms(objective: Objective) -> str:
    said = [f"{term.weight:g} × {term.measure} on {term.on} images" for term in objective.terms]
    close = [f"clean latents within {objective.closeness:g} of the original's"] if objective.closeness else []
    return ", ".join(said + close)


@contextmanager
def attack_bar(console: Console, steps: int) -> Iterator[tuple[Callable[[dict, int, int], None], Callable[[int, float], None]]]:
    """A bar over attacked images and one over a batch's steps; gives the functions that are told of each."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[notes]}"), console=console) as progress:
        images = progress.add_task("images", total=None, notes="")
        batch = progress.add_task("steps", total=steps, notes="")
        yield (
            lambda record, number, total: progress.update(images, completed=number, total=total),
            lambda step, objective: progress.update(batch, completed=step, notes=f"objective {objective:.4g}"),
        )


@contextmanager
def picture_bar(console: Console, what: str = "denoising") -> Iterator[Callable[[int, int], None]]:
    """A bar over images; gives the function that is told how many of how many are done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None)
        yield lambda number, total: progress.update(task, completed=number, total=total)


@contextmanager
def step_bar(console: Console, steps: int) -> Iterator[Callable[[int, float], None]]:
    """A bar over optimiser steps; gives the function that is told of each and of its loss, and stops there where asked to."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    notes = TextColumn("{task.fields[notes]}")
    with Stop(console) as stop, Progress(TextColumn("tuning"), *columns, notes, console=console) as progress:
        task = progress.add_task("", total=steps, notes="")

        def stepped(step: int, loss: float) -> None:
            progress.update(task, completed=step, notes=f"loss {loss:.4f}")
            if not console.is_terminal and step % LOGGED == 0:  # no bar in a log file
                console.print(f"step {step} of {steps}: loss {loss:.4f}")
            if stop.wanted:
                raise KeyboardInterrupt

        yield stepped
