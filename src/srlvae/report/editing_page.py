"""What the page of an editing benchmark shows: tables, plots, sheets, doubts."""

from __future__ import annotations

import json

from srlvae.bench.editing import SHEETS
from srlvae.report.editing import INCEPTION, Measure, Run, cost_table, editing_table, fidelity_table, removed
from srlvae.report.plots import STYLES, plot_costs, plot_editing
from srlvae.report.render import inline_sheet
from srlvae.report.verdicts import verdicts


def doubts(run: Run) -> list[str]:
    """What should not be believed, or not without a look."""
    result, n = run.result, run.result["rows"][0]["n"]
    found = [] if "doubts" in result else ["The run is not finished; the same command goes on where it was."]
    found.append(
        "Edits and their reference share photographs, prompts and noise, so no change at all is a distance of 0. For scale: "
        f"another draw of noise moves the clean edits by {result['floor']['other noise'][f'{run.network}_frechet']:.1f}."
    )
    if n < 2048:
        found.append(f"Fréchet distances of {n} images are biased; compare them only with one another.")
    if run.network != INCEPTION:
        found.append(f"No number here is FID: the network is {run.network}.")
    sets: dict[str, int] = {}
    for row in run.find(defence="hardened"):
        for doubt in row["doubts"]:
            name = f"{row['attack']} at {row['eps']}/255 made on the {row['made_on']} VAE: {doubt}"
            sets[name] = sets.get(name, 0) + 1
    found += [f"{name} ({count} of {len(result['images'])} photographs)" for name, count in sets.items()]
    return found + result.get("doubts", [])


def plots(run: Run, measures: list[Measure]) -> list[str]:
    """Over ε for every attack of more than one budget, and gain over cost."""
    plans = run.result["protocol"]["attacks"]
    names = [plan["name"] for plan in plans if len(plan["eps"]) > 1 and run.find(attack=plan["name"])]
    lines = {name: [[_points(run, name, m.key, style) for style in STYLES] for m in measures] for name in names}
    costs = [("hardened", 0.0)] + [(name, cost["seconds"]) for name, cost in run.result["costs"].get("purifiers", {}).items()]
    gains = [(name, seconds, gain) for name, seconds in costs if (gain := removed(run, name)) is not None]
    found = [plot_editing(lines, [f"{m.label} {m.better}" for m in measures])] if lines else []
    return [*found, plot_costs(gains, "share of the Fréchet distance removed")]


def _points(run: Run, attack: str, key: str, style: tuple[str, str]) -> list[tuple]:
    """(ε, value, interval) of the original VAE under the attack, or of the hardened one in one of the settings."""
    vae, setting = style
    defence = "none" if vae == "original" else "hardened"
    rows = run.find(attack=attack, defence=defence, setting=setting)
    return [(row["eps"], row["measured"][key], row["measured"][f"{key}_interval"]) for row in rows]


def page_parts(run: Run) -> dict:
    """Everything that the page shows of a run."""
    measures = run.measures()
    return {
        "name": run.name,
        "protocol": run.result["protocol"],
        "n": run.result["rows"][0]["n"],
        "verdicts": verdicts(run),
        "tables": [(f"{m.label} {m.better}", *editing_table(run, m)) for m in measures],
        "costs": cost_table(run),
        "fidelity": fidelity_table(run),
        "plots": plots(run, measures[:2]),
        "sheets": [(path.stem, inline_sheet(path)) for path in sorted((run.folder / SHEETS).glob("*.webp"))],
        "doubts": doubts(run),
        "settings": json.dumps({k: v for k, v in run.result.items() if k not in ("rows", "images")}, indent=2),
    }
