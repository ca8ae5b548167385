"""The tables of the editing benchmark, for its page, the terminal, README and docs alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srlvae.bench.cells import PARTS
from srlvae.bench.leaderboard import ENOUGH
from srlvae.bench.rows import VAE_OF, Row, vae_of
from srlvae.metrics.projection import DIMENSIONS
from srlvae.report.numbers import THOUSANDTHS, format_estimate, heading
from srlvae.report.rows import (
    NO_ATTACK,
    Table,
    attack_label,
    budgets,
    defence_label,
    distinct_values,
    find_pair,
    find_row,
    find_rows,
    format_factor,
    format_pair,
    group_rows,
    is_worst_case,
    made_on,
    main_budget,
    main_rows,
    rows_of,
)
from srlvae.report.runs import Run

# The network whose Fréchet distance is FID.
INCEPTION = "inception"


@dataclass(frozen=True)
class Measure:
    """How a measure of the rows is shown.

    - key: its name in the rows.
    - label: its name for readers, with the network that measured it.
    - spec: the format of its numbers, as `report.numbers.format_estimate` takes it.
    - better: an arrow, ↓ or ↑, in the direction that is better.
    """

    key: str
    label: str
    spec: str
    better: str

    @property
    def title(self) -> str:
        """The label above numbers in this format."""
        return heading(self.label, self.spec)


def measures_of(result: dict[str, Any]) -> dict[str, Measure]:
    """The measures that a result has, by key and in the order of the page. Labels name the networks of the protocol."""
    pairs, sets, clip = (result["protocol"][key] for key in ("pairs", "sets", "clip"))
    found = (
        Measure("kid", f"KID ({sets})", THOUSANDTHS, "↓"),
        Measure("frechet_pca", f"Fréchet ({DIMENSIONS} PCA dims of real photographs, {sets})", ".2f", "↓"),
        Measure("clip_i", f"CLIP-I ({clip})", ".3f", "↑"),
        Measure("frechet", "FID" if sets == INCEPTION else f"Fréchet distance ({sets})", ".1f", "↓"),
        Measure("distance", f"distance ({pairs})", ".3f", "↓"),
        Measure("psnr", "PSNR dB", ".2f", "↑"),
        Measure("ssim", "SSIM", ".3f", "↑"),
        Measure("clip_t", f"CLIP-T ({clip})", ".3f", "↑"),
    )
    there = {name for row in result["rows"] for name in row["measures"]}
    return {measure.key: measure for measure in found if measure.key in there}


def headline_measures(result: dict[str, Any]) -> dict[str, Measure]:
    """The measures that tables and plots show: KID, the Fréchet distance that means most at this n, and CLIP-I."""
    measures, few = measures_of(result), rows_of(result)[0].n < ENOUGH["frechet"]
    return {key: measures[key] for key in ("kid", "frechet_pca" if few and "frechet_pca" in measures else "frechet", "clip_i")}


def editing_table(result: dict[str, Any], measure: Measure, intervals: bool = True) -> Table:
    """One measure under every attack and every defence.

    There is a line for each attack, budget and access to the hardened VAE, and a column for each defence. Cells have 95 %
    intervals if `intervals`. The worst case has a table of its own.
    """
    rows, lines = [row for row in rows_of(result) if not is_worst_case(row)], []
    defences = distinct_values(rows, "defence")
    sets = group_rows(rows, lambda row: (row.condition["attack"], row.condition["eps"], _known(row)))
    for (attack, eps, where), found in sets.items():
        own = {row.defence: format_estimate(row.measures[measure.key], measure.spec, intervals) for row in found}
        lines.append(["clean" if attack == "none" else attack_label(found[0]), "" if attack == "none" else eps, where])
        lines[-1] += [own.get(defence) or _reason(attack, where, defence) for defence in defences]
    return ["attack", "ε", "access", *map(defence_label, defences)], lines


def _known(row: Row) -> str:
    """What the attacker knew of a defence: an attack on the original VAE is listed with its transfer to the others."""
    if row.access == "none" or made_on(row) == "both":
        return row.access.replace("none", "")
    return "white-box" if row.access == "white-box" and row.defence != "none" else "transfer"


def _reason(attack: str, where: str, defence: str) -> str:
    """Why a cell of the table has no number."""
    if ", through " in attack:
        return f"– made {attack.split(', ')[-1]}"
    known = where == "white-box" and vae_of(defence) == "original"
    return "– made on the hardened VAE" if known else "– not run"


def summary_table(result: dict[str, Any], intervals: bool = True) -> Table:
    """The main table: for each attack, how far edits are from clean edits, written original → hardened.

    The columns are, at the main budget and for KID and a Fréchet distance: the distances (with 95 % intervals if `intervals`),
    the factor between the two VAEs, and the distance of the hardened VAE white-box. CLIP-I and KID at other budgets follow. If
    perturbations were split, the last column has the KID of their contrast part alone: what an attack takes out of the picture
    itself, no encoder can put back.
    """
    everything, (kid, frechet, likeness) = rows_of(result), headline_measures(result).values()
    rows = main_rows(everything)
    first = main_budget(rows)
    rest = [eps for eps in budgets(rows) if eps != first]
    parts, lines = _contrast_pairs(everything, first), []
    for attack in distinct_values(rows, "attack"):
        eps = "0" if attack == "none" else first
        own = find_rows(rows, attack=attack)
        both = find_pair(own, eps=eps)
        white_box = find_row(own, eps=eps, defence="hardened", access="white-box")
        cells = [cell for measure in (kid, frechet) for cell in _distance_cells(both, white_box, measure, intervals)]
        cells += [format_pair(both, likeness.key, likeness.spec)]
        cells += [format_pair(find_pair(own, eps=other), kid.key, kid.spec) for other in rest]
        cells += [format_pair(parts[attack], kid.key, kid.spec) if attack in parts else "– not split"] if parts else []
        missing = "– no attack" if attack in NO_ATTACK else "– not run"
        lines.append(["none" if attack == "none" else attack_label(own[0]), *(cell or missing for cell in cells)])
    columns = [title for m in (kid, frechet) for title in (f"{m.title}, {first}", "factor", "white-box")]
    columns += [f"{likeness.label}, {first}", *(f"{kid.title}, {eps}" for eps in rest)]
    columns += [f"{PARTS['contrast']}: {kid.title}"] if parts else []
    lines += [[attack, *[f"– {reason}"] * len(columns)] for attack, reason in result.get("not_run", {}).items()]
    return ["attack", *columns], lines


def _contrast_pairs(rows: list[Row], eps: str) -> dict[str, tuple[Row, Row]]:
    """By attack, the rows of both VAEs under the contrast part of its perturbations alone."""
    of = {attack: f"{attack}, {PARTS['contrast']}" for attack in distinct_values(rows, "of")}
    return {attack: both for attack, part in of.items() if (both := find_pair(rows, attack=part, eps=eps))}


def _distance_cells(both: tuple[Row, Row] | None, white_box: Row | None, measure: Measure, intervals: bool) -> list[str]:
    """A measure original → hardened, its factor, and the same white-box."""
    divided = format_factor(*both, measure.key) if both and made_on(both[0]) else ""
    own = format_estimate(white_box.measures[measure.key], measure.spec, intervals) if white_box else ""
    return [format_pair(both, measure.key, measure.spec, intervals), divided, own]


def fidelity_table(result: dict[str, Any]) -> Table:
    """How close both VAEs' reconstructions of clean photographs are to these."""
    measures, rows = measures_of(result), rows_of(result, "reconstruction")
    found = [find_row(rows, defence=defence) for defence in VAE_OF]
    lines = [
        [measures[key].label, *(format_estimate(row.measures[key], ".3f") for row in found if row)]
        for key in ("psnr", "ssim", "distance")
    ]
    return ["clean reconstruction", *VAE_OF.values()], lines


def side_by_side(runs: list[Run]) -> Table:
    """Several runs in one table, which has a column for each run and a line for each attack in transfer.

    Cells have KID and CLIP-I, each written original → hardened.
    """
    rows = [[row for row in rows_of(run.result) if not is_worst_case(row)] for run in runs]
    sets = [(row.condition["attack"], row.condition["eps"]) for own in rows for row in find_rows(own, access="transfer")]
    lines = []
    for attack, eps in dict.fromkeys(sets):
        found = [find_pair(own, attack=attack, eps=eps) for own in rows]
        label = next(attack_label(pair[0]) for pair in found if pair) if any(found) else attack
        lines.append([label, eps, *map(_distance_and_likeness, found)])
    titles = ["; ".join(measures_of(run.result)[key].title for key in ("kid", "clip_i")) for run in runs]
    numbers = [max((row.n for row in own), default=0) for own in rows]
    columns = (f"{run.name}: {title}, n = {n}" for run, title, n in zip(runs, titles, numbers, strict=True))
    return ["attack", "ε", *columns], lines


def _distance_and_likeness(found: tuple[Row, Row] | None) -> str:
    return f"{format_pair(found, 'kid', THOUSANDTHS)}; {format_pair(found, 'clip_i', '.3f')}" if found else ""
