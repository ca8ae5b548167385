"""Tables that need no rows, and a table as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from srlvae.attacks.attack import Attack
from srlvae.report.rows import Table


def attack_list(attacks: Mapping[str, Attack]) -> Table:
    """A line an attack, and below it one for each of its presets; budgets are the effective ones."""
    lines = []
    for name, attack in attacks.items():
        lines.append([f"[bold]{name}[/]", "", "", attack.needs, attack.passes, attack.paper])
        for preset, s in attack.presets.items():
            lines.append([f"  {preset}", s.ball.radius, str(s.ball.steps), "", "", ""])
    return ["attack, presets", "ε", "steps", "needs", "a step", "paper"], lines


def attacked_table(records: list[dict]) -> Table:
    """A line an attacked image, from the records beside them."""
    lines = []
    for record in records:
        ends = " → ".join(f"{value:.4g}" for value in record["objective"])
        lines.append([Path(record["source"]).name, record["effective_eps"], ends, f"{record['latent_shift']:.3f}"])
    return ["image", "ε as read back", "objective", "latent shift"], lines


def markdown(table: Table) -> str:
    """The table in Markdown's syntax."""
    header, lines = table
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
