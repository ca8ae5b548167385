"""Rows of the editing benchmark → the paper's table, plots, sheets and verdicts, as a page's parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from srlvae.bench.editing import RESULT
from srlvae.errors import InputError
from srlvae.report.tables import Table

# The budgets, in 255ths, of what is said of a run in one number.
BUDGETS = (15, 16)
# The network whose Fréchet distance is FID.
INCEPTION = "inception-v3-compat"


@dataclass(frozen=True)
class Measure:
    """A column of rows. key: in `measured`; digits: shown; better: which way."""

    label: str
    key: str
    digits: int
    better: str


@dataclass(frozen=True)
class Run:
    """A folder of the editing benchmark."""

    name: str
    folder: Path
    result: dict

    @property
    def network(self) -> str:
        """The judge of sets that hardening never saw: the last that the rows have."""
        return self._last("_frechet")

    @property
    def pairwise(self) -> str:
        """The same of pairs; LPIPS judges pairs alone, and Inception sets."""
        return self._last("_distance")

    def _last(self, ending: str) -> str:
        measured = self.result["rows"][0]["measured"]
        return [key.removesuffix(ending) for key in measured if key.endswith(ending)][-1]

    @property
    def clip(self) -> str:
        return f"clip_i_{self.result['protocol']['clip']}"

    def measures(self) -> list[Measure]:
        frechet = "FID" if self.network == INCEPTION else f"Fréchet distance ({self.network})"
        clip = self.result["protocol"]["clip"]
        return [
            Measure(frechet, f"{self.network}_frechet", 1, "↓"),
            Measure(f"CLIP-I ({clip})", self.clip, 3, "↑"),
            Measure(f"KID ({self.network})", f"{self.network}_kid", 4, "↓"),
            Measure(f"distance ({self.pairwise})", f"{self.pairwise}_distance", 3, "↓"),
            Measure("PSNR dB", "psnr", 2, "↑"),
            Measure("SSIM", "ssim", 3, "↑"),
            Measure(f"CLIP-T ({clip})", f"clip_t_{clip}", 3, "↑"),
        ]

    def defences(self) -> list[str]:
        return list(dict.fromkeys(row["defence"] for row in self.result["rows"]))

    def find(self, **wanted) -> list[dict]:
        return [row for row in self.result["rows"] if wanted.items() <= row.items()]


def load_run(folder: Path) -> Run:
    """Raises InputError where there are no rows."""
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f"{folder} has no {RESULT}; run: srlvae bench editing … --out {folder}")
    result = json.loads(path.read_text(encoding="utf-8"))
    if not result.get("rows"):
        raise InputError(f"{path} has no rows yet; run the same srlvae bench editing again, it goes on where it was")
    return Run(folder.name, folder, result)


def editing_table(run: Run, measure: Measure, intervals: bool = True) -> Table:
    """A line an attack, budget and the VAE it was made on; a column a defence, with its 95 % interval where wanted."""
    defences = run.defences()
    sets = dict.fromkeys((row["attack"], row["eps"], row["made_on"]) for row in run.result["rows"])
    lines = []
    for attack, eps, made_on in sets:
        rows = {row["defence"]: row for row in run.find(attack=attack, eps=eps, made_on=made_on)}
        where = {"": "", "original": "transfer", "hardened": "white-box"}[made_on]
        cells = [shown(rows[d]["measured"], measure, intervals) if d in rows else "" for d in defences]
        lines.append(["clean" if attack == "none" else attack, f"{eps}/255" if eps else "", where, *cells])
    titles = ("no defence" if d == "none" else d for d in defences)
    return ["attack", "ε", "on the hardened VAE", *titles], lines


def shown(measured: dict, measure: Measure, intervals: bool) -> str:
    value, interval = measured.get(measure.key), measured.get(f"{measure.key}_interval") if intervals else None
    if value is None:
        return "equal"
    # Rounded first, and no minus before a zero.
    value, *ends = (f"{round(v, measure.digits) + 0.0:.{measure.digits}f}" for v in [value, *(interval or ())])
    return f"{value} [{', '.join(ends)}]" if ends else value


def cost_table(run: Run) -> Table:
    """A line a defence: what it takes for an image, beside what it gains on the paper's attack at the largest budget."""
    costs, lines = run.result["costs"], []
    for defence in run.defences():
        if defence == "none" or not costs:  # measured at the end of a run
            continue
        gain = [f"{removed(run, defence):.0%}"] if removed(run, defence) is not None else [""]
        if defence == "hardened":
            extra = costs["encoder"]["hardened"] - costs["encoder"]["original"]
            lines.append(["hardened", f"0 (its encoder: {extra * 1e3:+.2f} ms, alternating)", "0", "0", *gain])
            continue
        cost = costs["purifiers"][defence]
        passes = ", ".join(f"{count:.0f} {name}" for name, count in cost["passes"].items() if count) or "0"
        lines.append([defence, f"{cost['seconds']:.3g}", f"{cost['memory'] / 1e6:.0f} MB", passes, *gain])
    return ["defence", "seconds an image", "memory", "network passes", "distance removed"], lines


def removed(run: Run, defence: str) -> float | None:
    """The share of the Fréchet distance that a defence takes away from the protocol's first attack in transfer."""
    plan = run.result["protocol"]["attacks"][0]
    key = f"{run.network}_frechet"
    found = {}
    for name in ("none", defence):
        rows = run.find(attack=plan["name"], made_on="original", defence=name)
        found[name] = {row["eps"]: row["measured"][key] for row in rows}
    shared = [eps for eps in found[defence] if eps in BUDGETS] or list(found[defence])
    return 1 - found[defence][shared[0]] / found["none"][shared[0]] if shared else None


def fidelity_table(run: Run) -> Table:
    """Clean photographs through both VAEs."""
    both, lines = run.result["reconstruction"], []
    for measure in [key for key in both["original"] if key != "n" and not key.endswith("_interval")]:
        cells = []
        for name in ("original", "hardened"):
            low, high = both[name][f"{measure}_interval"]
            cells.append(f"{both[name][measure]:.3f} [{low:.3f}, {high:.3f}]")
        lines.append([measure.replace("_", " "), *cells])
    return ["clean reconstruction", "original", "hardened"], lines


def side_by_side(runs: list[Run]) -> Table:
    """A line an attack in transfer, a column a run: Fréchet distance and CLIP-I without and with the hardened VAE."""
    sets = dict.fromkeys((r["attack"], r["eps"]) for run in runs for r in run.find(made_on="original", defence="hardened"))
    lines = []
    for attack, eps in sets:
        cells = []
        for run in runs:
            pair = [run.find(attack=attack, eps=eps, made_on="original", defence=d) for d in ("none", "hardened")]
            if not all(pair):
                cells.append("")
                continue
            none, own = (rows[0]["measured"] for rows in pair)
            key = f"{run.network}_frechet"
            cells.append(f"{none[key]:.1f} → {own[key]:.1f}; {none[run.clip]:.3f} → {own[run.clip]:.3f}")
        lines.append([attack, f"{eps}/255", *cells])
    return ["attack", "ε", *(f"{run.name} ({run.network}, {run.result['protocol']['clip']})" for run in runs)], lines
