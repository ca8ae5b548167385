"""What a benchmark says in a terminal and in a log file."""

from __future__ import annotations

import io

from rich.console import Console

from srlvae.bench.listener import BenchListener
from srlvae.cli.bench_drawing import RowBar, RowLines


def test_a_listener_does_nothing_by_itself():
    listener = BenchListener()
    assert listener.row_finished("clean, none", 1, 2) is listener.images_made(3) is listener.stepped(1, 0.5) is None


def test_every_row_is_a_line_of_a_log():
    for drawing in (RowLines, RowBar):
        log = io.StringIO()
        drawing(Console(file=log, width=120)).row_finished("clean, hardened", 1, 2)
        assert "1 of 2" in log.getvalue() and "clean, hardened" in log.getvalue()


def test_the_bar_counts_images_and_shows_the_steps_of_a_fine_tuning():
    with RowBar(Console(file=io.StringIO(), force_terminal=True, width=160), steps=5) as bar:
        bar.images_made(3)
        bar.images_made(4)
        bar.row_finished("clean, none", 1, 2)
        bar.stepped(5, 0.25)
        rows, steps = bar.progress.tasks
    assert (rows.completed, rows.total, rows.fields["notes"]) == (1, 2, "7 images made; clean, none")
    assert (steps.completed, steps.total, steps.fields["notes"]) == (5, 5, "loss 0.2500")
