"""Tables that are not made from rows, and a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from srlvae.attacks.attack import Attack
from srlvae.report.rows import Table


def attack_list(attacks: Mapping[str, Attack]) -> Table:
    """A line for each attack, followed by one for each of its presets. Budgets are those that take effect."""
    lines = []
    for name, attack in attacks.items():
        lines.append([f"[bold]{name}[/]", "", "", attack.needs, attack.passes, attack.paper])
        for preset, s in attack.presets.items():
            lines.append([f"  {preset}", s.ball.radius, str(s.ball.steps), "", "", ""])
    return ["attack, presets", "ε", "steps", "needs", "cost of a step", "paper"], lines


def attacked_table(records: list[dict]) -> Table:
    """A line for each attacked image, from the records that are written beside the images."""
    lines = []
    for record in records:
        ends = " → ".join(f"{value:.4g}" for value in record["objective"])
        lines.append([Path(record["source"]).name, record["effective_eps"], ends, f"{record['latent_shift']:.3f}"])
    return ["image", "ε of the saved file", "objective", "latent shift"], lines


def markdown(table: Table) -> str:
    """The table in the syntax of Markdown, in which names are no code: what would end a cell or begin HTML is escaped."""
    header, lines = table
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(map(_markdown_cell, line))} |\n" for line in [header, rule, *lines])


def _markdown_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").splitlines())
