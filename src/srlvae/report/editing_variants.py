"""What the editing benchmark tells beyond its attacks as they are chosen: variants of attacks, and their damage over steps."""

from __future__ import annotations

from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.editing import Measure, headline_measures, measures_of
from srlvae.report.numbers import format_estimate
from srlvae.report.plots import STYLES, Point, point
from srlvae.report.rows import (
    Table,
    attack_label,
    distinct_values,
    find_pair,
    find_row,
    find_rows,
    format_factor,
    format_pair,
    format_share_left,
    is_worst_case,
    main_budget,
    main_rows,
    measured_value,
    rows_of,
)

NOT_ADAPTIVE = "not attacked adaptively"
# An attack has converged if its last numbers of steps differ by no more than this share of the damage.
FLAT = 0.05


def variants_table(result: dict[str, Any]) -> Table:
    """Variants of attacks at the main budget, original → hardened: parts of perturbations, both VAEs at once, a twin."""
    rows, (kid, frechet, clip), lines = rows_of(result), headline_measures(result).values(), []
    own = [row for row in rows if "of" in row.condition and "steps" not in row.condition]
    distance = measures_of(result)["distance"]
    for attack in distinct_values(own, "attack"):
        if both := find_pair(own, attack=attack, eps=main_budget(rows)):
            cells = [format_pair(both, m.key, m.spec) for m in (kid, frechet, clip, distance)]
            lines.append([attack_label(both[0]), both[1].access, cells[0], format_factor(*both, kid.key), *cells[1:]])
    return ["variant", "access", kid.title, "factor", frechet.label, clip.label, distance.label], lines


def adaptive_cell(rows: list[Row], defence: str, measure: Measure) -> str:
    """What attacks that go through a purifier leave of its defence, at the main budget; or that there are none."""
    eps = main_budget(rows)
    found = [row for row in find_rows(rows, defence=defence, access="white-box", eps=eps) if "of" in row.condition]
    said = [f"{attack_label(row)} {format_estimate(row.measures[measure.key], measure.spec, interval=False)}" for row in found]
    return "; ".join(said) or NOT_ADAPTIVE


def worst_table(result: dict[str, Any]) -> Table:
    """The worst case image by image, at each budget: a line for each defence, by what the attacker knew of it."""
    distance, lines = measures_of(result)["distance"], []
    for row in filter(is_worst_case, rows_of(result)):
        about = [row.defence, row.access, str(row.condition["eps"]), str(row.condition["attacks"])]
        lines.append([*about, format_estimate(row.measures[distance.key], distance.spec)])
    return ["defence", "access", "ε", "attacks", distance.title], lines


def white_box_table(result: dict[str, Any]) -> Table:
    """What attacks made on the hardened VAE keep, at the main budget, of what the same attacks do to the original one.

    For each attack: KID and the distance between pairs, original → hardened, and the share that is left of each. For the worst
    case image by image: the distance, by which it is chosen.
    """
    everything, (kid, distance) = rows_of(result), (measures_of(result)[key] for key in ("kid", "distance"))
    rows, lines = [*main_rows(everything), *filter(is_worst_case, everything)], []
    for attack in distinct_values(rows, "attack"):
        wanted = {"attack": attack, "eps": main_budget(rows), "access": "white-box"}
        before, after = (find_row(rows, defence=defence, **wanted) for defence in VAE_OF)
        if before and after:
            of_sets = ["– not of a mixture"] * 2 if is_worst_case(before) else _kept((before, after), kid)
            lines.append([attack_label(before), *of_sets, *_kept((before, after), distance)])
    return ["attack", kid.title, "left", distance.title, "left"], lines


def _kept(both: tuple[Row, Row], measure: Measure) -> list[str]:
    """A measure original → hardened, and the share that is left of it."""
    return [format_pair(both, measure.key, measure.spec), format_share_left(*both, measure.key)]


def steps_table(result: dict[str, Any]) -> Table:
    """The distance between pairs of edits over steps, at the main budget, and whether more steps would gain more."""
    lines = []
    for attack, curves in step_curves(result, "distance").items():
        for (label, *_), points in zip(STYLES.values(), curves, strict=True):
            values = [(x, y) for x, y, _ in sorted(points) if y is not None]
            if len(values) > 1:
                gain = values[-1][1] / values[-2][1] - 1
                flat = "flat" if abs(gain) <= FLAT else "not flat"
                said = "; ".join(f"{x:.0f}: {y:.3f}" for x, y in values)
                lines.append([attack, label, said, f"{gain:+.0%}, {flat}"])
    return ["attack", "edits of", "steps: distance", "the last gain"], lines


def step_curves(result: dict[str, Any], measure: str) -> dict[str, list[list[Point]]]:
    """For each attack that is swept over steps, at the main budget, for each of STYLES, points over the steps."""
    rows = rows_of(result)
    eps, swept = main_budget(rows), [row for row in rows if "steps" in row.condition]
    chosen = {_label(plan): plan.get("steps", 0) for plan in result["protocol"]["attacks"]}
    found = {}
    for attack in distinct_values(swept, "of"):
        curves = []
        for defence, access in STYLES:
            wanted = {"defence": defence, "access": access, "eps": eps}
            points = [point(row, measure, float(row.condition["steps"])) for row in find_rows(swept, of=attack, **wanted)]
            base = find_row(main_rows(rows), attack=attack, **wanted)
            curves.append([*points, *([point(base, measure, float(chosen[attack]))] if base and chosen.get(attack) else [])])
        found[attack] = curves
    return found


def _label(plan: dict[str, Any]) -> str:
    return f"{plan['name']}:{plan['preset']}" if plan.get("preset") else plan["name"]


def square_doubts(result: dict[str, Any]) -> list[str]:
    """A doubt for each VAE on which a search by queries alone hurts edits more than the gradient attack of the same aim."""
    rows, found = main_rows(rows_of(result)), []
    for query, gradient in (("square", "adaptive:reconstruction"), ("square:zero", "photoguard-encoder")):
        for defence in ("none", "hardened"):
            wanted = {"eps": main_budget(rows), "defence": defence, "access": "white-box"}
            pair = [find_row(rows, attack=attack, **wanted) for attack in (query, gradient)]
            if pair[0] and pair[1] and measured_value(pair[0], "distance") > measured_value(pair[1], "distance"):
                found.append(f"{query} hurts edits under {defence} more than {gradient}: a sign of masked gradients")
    return found
