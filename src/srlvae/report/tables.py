"""Rows of results → lines of a table, the same for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from srlvae.attacks.attack import Attack
from srlvae.attacks.engine.ball import Ball

Table = tuple[list[str], list[list[str]]]


def reconstruction_table(result: dict) -> Table:
    """Header and lines: one line an attack, ε and setting, each measure as `original → hardened`.

    In transfer and white-box lines the original's number is its own under the attack made on it.
    """
    networks = result["protocol"]["features"]
    measures = [("PSNR dB", "psnr", 2), ("SSIM", "ssim", 3), ("shift", "shift", 3)]
    measures += [(f"{net} distance", f"{net}_distance", 3) for net in networks]
    measures += [(f"{net} Fréchet", f"{net}_frechet", 1) for net in networks]
    originals = {(r["attack"], r["eps"]): r for r in result["rows"] if r["vae"] == "original"}
    lines = []
    for row in result["rows"]:
        if row["vae"] == "hardened":
            before = originals[row["attack"], row["eps"]]
            cells = [f"{before[key]:.{digits}f} → {row[key]:.{digits}f}" for _, key, digits in measures]
            attack = "clean" if row["attack"] == "none" else row["attack"]
            lines.append(
                [attack, f"{row['eps']}/255", "" if row["setting"] == "any" else row["setting"], str(row["n"]), *cells]
            )
    return ["attack", "ε", "setting", "n", *(label for label, _, _ in measures)], lines


def poisoning_table(result: dict) -> Table:
    """A line a pair, kind, budget and number of poisons; under each defence the shares called the target and the concept, means
    over seeds."""
    defences = list(dict.fromkeys(row["defence"] for row in result["rows"]))
    shares: dict[tuple, dict[str, list[dict]]] = {}
    for row in result["rows"]:
        budget = f"{row['eps']}/255" if row["eps"] else ""
        line = (f"{row['concept']} → {row['target']}", row["kind"], budget, str(row["count"]))
        shares.setdefault(line, {}).setdefault(row["defence"], []).append(row["judged"])

    def cell(found: list[dict]) -> str:
        target, concept = (sum(judged[key] for judged in found) / len(found) for key in ("target", "concept"))
        return f"{target:.0%} ({concept:.0%})"

    lines = [[*line, *(cell(own[d]) if d in own else "" for d in defences)] for line, own in shares.items()]
    return ["shown as", "poison", "ε", "poisons", *defences], lines


def attack_list(attacks: Mapping[str, Attack]) -> Table:
    """A line an attack, and below it one for each of its presets; budgets are the effective ones."""
    lines = []
    for name, attack in attacks.items():
        lines.append([f"[bold]{name}[/]", "", "", attack.needs, attack.passes, attack.paper])
        for preset, s in attack.presets.items():
            lines.append([f"  {preset}", _radius(s.ball), str(s.ball.steps), "", "", ""])
    return ["attack, presets", "ε", "steps", "needs", "a step", "paper"], lines


def _radius(ball: Ball) -> str:
    if ball.eps is None:
        return "none"
    return f"{ball.eps:g} (ℓ2)" if ball.norm == "l2" else f"{ball.eps * 255:.4g}/255"


def attacked_table(records: list[dict]) -> Table:
    """A line an attacked image, from the records beside them."""
    lines = []
    for record in records:
        ends = " → ".join(f"{value:.4g}" for value in record["objective"])
        lines.append([Path(record["source"]).name, record["effective_eps"], ends, f"{record['latent_shift']:.3f}"])
    return ["image", "ε as read back", "objective", "latent shift"], lines


def markdown(table: Table) -> str:
    header, lines = table
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
