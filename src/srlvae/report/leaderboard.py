"""The leaderboard as tables: attacks by models, by what the attacker knew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from srlvae.bench.leaderboard import measurement_of
from srlvae.bench.rows import Estimate
from srlvae.report.numbers import THOUSANDTHS, format_estimate, heading
from srlvae.report.rows import Table, label

# The benchmark and the measure of each table, with the format of its numbers.
SHOWN = (
    ("editing", "kid", THOUSANDTHS),
    ("editing", "frechet_pca", ".2f"),
    ("editing", "frechet", ".1f"),
    ("editing", "clip_i", ".3f"),
    ("editing", "distance", ".3f"),
    ("reconstruction", "psnr", ".2f"),
    ("reconstruction", "distance", ".3f"),
    ("reconstruction", "shift", ".3f"),
)
FlatRow = dict[str, Any]


def leaderboard_tables(rows: Iterable[FlatRow]) -> list[tuple[str, Table]]:
    """A table for each benchmark, measure, pipeline, protocol and set of photographs that there are rows of, with its title.

    Numbers by other protocols, such as those of fewer images, of other pipelines or photographs do not stand side by side.
    """
    groups: dict[tuple[str, ...], list[FlatRow]] = {}
    for row in rows:
        _, benchmark, *how = measurement_of(row)
        groups.setdefault((benchmark, row["measure"], *how), []).append(row)
    found = []
    for benchmark, measure, spec in SHOWN:
        shown = {key: own for key, own in groups.items() if key[:2] == (benchmark, measure)}
        for (_, _, pipeline, protocol, photographs), own in shown.items():
            judges = ", ".join(sorted({row["judge"] for row in own if row["judge"]}))
            title = f"{benchmark}: {heading(measure, spec)}" + (f" ({judges})" if judges else "")
            how = {"pipeline": pipeline, "protocol": protocol, "photographs": photographs}
            named = [f"n = {max(row['n'] for row in own)}", *(f"{what} {name}" for what, name in how.items() if name)]
            found.append((", ".join([title, *named]), _table(own, spec)))
    return found


def _table(rows: list[FlatRow], spec: str) -> Table:
    """A line for each attack, budget and access, and two columns for each model: its original VAE and itself.

    What is made on the original VAE stands in the line of its transfer. A number with flags has an asterisk.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = [(model, defence) for model in models for defence in ("none", "hardened")]
    lines: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    for row in rows:
        on_original = row["defence"] == "none" and row.get("made_on") != "both"
        known = "transfer" if on_original and row["access"] == "white-box" else row["access"]
        access = "" if known == "none" else known
        attack = label(row["attack"], row.get("norm"))
        cells = lines.setdefault((attack, row["eps"], access), {})
        estimate = Estimate(row["value"], row["low"], row["high"], row["n"])
        cells[row["model"], row["defence"]] = format_estimate(estimate, spec) + (" *" if row["flags"] else "")
    body = [[*key, *(cells.get(column) or _reason(key[2], column[1]) for column in columns)] for key, cells in lines.items()]
    titles = [f"{model}: {'original' if defence == 'none' else 'hardened'}" for model, defence in columns]
    shown = [line for line in body if any(not cell.startswith("–") for cell in line[3:])]
    return ["attack", "ε", "access", *titles], shown


def _reason(access: str, defence: str) -> str:
    """Why a cell has no number: what was made on the hardened VAE is not measured on the original one."""
    return "– made on the hardened VAE" if access == "white-box" and defence == "none" else "– not run"


def about_models(rows: Iterable[FlatRow]) -> Table:
    """A line for each model: who made it, where it was published, and what it is measured in."""
    keys = ("model", "who", "paper", "pipeline", "hardened")
    found = dict.fromkeys(tuple(str(row[key]) for key in keys) for row in rows if row["pipeline"])
    return list(keys), [[*line[:-1], line[-1][:12]] for line in found]


def flags_of(rows: Iterable[FlatRow]) -> list[str]:
    """Every flag of the rows in a sentence, once."""
    return list(dict.fromkeys(f"{row['model']}, {row['attack']} {row['eps']}: {flag}" for row in rows for flag in row["flags"]))
