"""What long work looks like in a terminal and in a log file."""

from __future__ import annotations

import io
import os
import signal

import pytest
from rich.console import Console

from srlvae.cli import shared
from srlvae.cli.drawing import Bars
from srlvae.errors import InputError
from srlvae.events import Listener


def test_a_listener_does_nothing_by_itself():
    listener = Listener()
    assert listener.says("text") is listener.at("rows", 1, 2) is None and listener.should_stop() is False


def test_a_bar_is_made_when_it_is_first_heard_of_and_moves():
    with Bars(Console(file=io.StringIO(), force_terminal=True, width=160)) as bars:
        bars.at("rows", 1, 2, "clean, none")
        bars.at("steps", 3, 5)
        bars.at("steps", 5, note="loss 0.2500")
        rows, steps = bars.progress.tasks
    assert (rows.description, rows.completed, rows.total, rows.fields["note"]) == ("rows", 1, 2, "clean, none")
    assert (steps.completed, steps.total, steps.fields["note"]) == (5, 5, "loss 0.2500")


def test_in_a_log_a_bar_has_a_line_at_first_and_at_its_end():
    log = io.StringIO()
    with Bars(Console(file=log, width=120)) as bars:
        for number in range(1, 6):
            bars.at("rows", number, 5, f"row {number}")
        bars.says("done")
    lines = [line for line in log.getvalue().splitlines() if line.strip()]
    assert lines == ["rows 1 of 5: row 1", "rows 5 of 5: row 5", "done"]


def test_names_in_notes_are_printed_as_they_are():
    log = io.StringIO()
    with Bars(Console(file=log, width=120)) as bars:
        bars.at("rows", 1, 1, "[red]a.png[/red]")
    assert "[red]a.png[/red]" in log.getvalue()


def test_a_table_too_wide_for_the_terminal_is_a_list(capsys, monkeypatch):
    header, line = ["attack", "distance", "measured in words"], ["photoguard", "", "1.0"]
    monkeypatch.setattr(shared.console, "width", 60)
    shared.show_table(header, [line])
    assert "┃" in capsys.readouterr().out
    monkeypatch.setattr(shared.console, "width", 20)
    shared.show_table(header, [line])
    assert capsys.readouterr().out.splitlines() == ["photoguard", "  measured in words: 1.0"]


def test_names_in_a_table_are_printed_as_they_are(capsys, monkeypatch):
    for width in (60, 10):
        monkeypatch.setattr(shared.console, "width", width)
        shared.show_table(["run", "steps of [x]"], [["srl[v2]", "100 [/b]"]])
        said = capsys.readouterr().out
        assert "srl[v2]" in said and "100 [/b]" in said and "[x]" in said


def test_a_signal_asks_for_a_stop_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Bars(Console(file=io.StringIO())) as bars:
        assert not bars.should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert bars.should_stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_device_that_holds_no_numbers_is_none():
    for name in ("meta", "cuda:99", "nonsense"):
        with pytest.raises(InputError, match=f"no device '{name}' here"):
            shared.device_of(name)
