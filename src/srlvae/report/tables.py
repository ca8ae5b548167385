"""Tables that are not made from rows, and a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srlvae.attacks.attack import Attack
from srlvae.report.rows import Table

# What the letters of a step's cost stand for.
PASSES = "Passes in a step: E encoder, D decoder, U UNet, P perceptual network. Forward means without a backward pass."


def attack_list(attacks: Mapping[str, Attack]) -> Table:
    """A line for each attack, followed by one for each of its presets, in two parts. Budgets are those that take effect.

    It fits into 80 columns.
    """
    parts = {"vae": ("on a VAE", "--vae"), "pipeline": ("on a pipeline", "--pipeline, with --vae in it")}
    lines = []
    for needs, (title, options) in parts.items():
        lines.append([f"[italic]{title}[/]", f"[italic]{options}[/]", ""])
        for name, attack in attacks.items():
            if attack.needs == needs:
                lines.append([f"[bold]{name}[/]", attack.paper, attack.passes])
                lines += [[f"  {preset}", f"{s.ball.radius}, {s.ball.steps}", ""] for preset, s in attack.presets.items()]
    return ["attack, presets", "paper; ε and steps", "a step costs"], lines


def attack_json(attacks: Mapping[str, Attack]) -> list[dict[str, Any]]:
    """What `attack_list` shows, for scripts: a dictionary for each attack, with its presets by name."""
    listed = []
    for name, attack in attacks.items():
        presets = {
            preset: {"budget": str(setting.ball.radius), "steps": setting.ball.steps, "source": setting.source}
            for preset, setting in attack.presets.items()
        }
        listed.append({"name": name, "paper": attack.paper, "needs": attack.needs, "step": attack.passes, "presets": presets})
    return listed


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
