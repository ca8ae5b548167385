"""Rows of the hardening benchmark → the table, the curves, and by how much less one run gets where another ends."""

from __future__ import annotations

from srlvae.report.tables import Table

# (label, attack, access, measure, whether more is better)
MEASURES = (
    ("clean shift", "none", "any", "shift", False),
    ("Lite1 distance", "none", "any", "efficientnet-lite1_distance", False),
    ("pushed away, transfer", "latent", "transfer", "shift", False),
    ("pushed away, white-box", "latent", "white-box", "shift", False),
    ("pulled to zero, transfer", "photoguard-encoder", "transfer", "shift", False),
    ("pulled to zero, white-box", "photoguard-encoder", "white-box", "shift", False),
    ("reconstruction dB, transfer", "reconstruction", "transfer", "psnr", True),
    ("reconstruction dB, white-box", "reconstruction", "white-box", "psnr", True),
)
# (processor seconds, value, interval)
Points = list[tuple]


def curves(result: dict) -> dict[str, dict[str, Points]]:
    """Of each measure, each run's points."""
    found: dict[str, dict[str, Points]] = {}
    for label, attack, access, measure, _ in MEASURES:
        lines = found.setdefault(label, {})
        for row in result["rows"]:
            if row["run"] != "original" and (row["attack"], row["setting"]) == (attack, access):
                point = (row["seconds"], row[measure], row[f"{measure}_interval"])
                lines.setdefault(row["run"], []).append(point)
    return found


def hardening_table(result: dict) -> Table:
    """A line a run at its end, beside the original."""
    lines = [["original", "", "", *(_original(result, *key) for key in MEASURES)]]
    for run in dict.fromkeys(row["run"] for row in result["rows"] if row["run"] != "original"):
        ends = [curve[run][-1] for curve in curves(result).values()]
        last = [row for row in result["rows"] if row["run"] == run][-1]
        lines.append([run, str(last["step"]), f"{last['seconds']:.0f}", *(_shown(value) for _, value, _ in ends)])
    return ["run", "steps", "processor s", *(label for label, *_ in MEASURES)], lines


def _original(result: dict, label: str, attack: str, access: str, measure: str, more: bool) -> str:
    rows = [row for row in result["rows"] if row["run"] == "original" and row["attack"] == attack]
    return _shown(rows[0][measure])


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) > 10 else f"{value:.3f}"


def shares(result: dict, run: str, other: str) -> dict[str, float | None]:
    """Of each robustness measure, the share of `other`'s whole cost for which `run` is as good as `other` is at its end.

    None where it never is.
    """
    found: dict[str, float | None] = {}
    for label, attack, _, _, more in MEASURES:
        if attack != "none":
            lines = curves(result)[label]
            cost, goal, _ = lines[other][-1]
            reached = [seconds for seconds, value, _ in lines[run] if (value >= goal if more else value <= goal)]
            found[label] = min(reached) / cost if reached else None
    return found


def shares_table(result: dict) -> Table | None:
    """A line each other run: for which share of its cost the first is as good as it is at its end. None for a single run."""
    first, *others = dict.fromkeys(row["run"] for row in result["rows"] if row["run"] != "original")
    if not others:
        return None
    found = {other: shares(result, first, other) for other in others}
    lines = [[other, *("never" if s is None else f"{s:.2f}" for s in own.values())] for other, own in found.items()]
    return [
        f"share of its cost at which {first} is as good",
        *(label for label, attack, *_ in MEASURES if attack != "none"),
    ], lines
