"""What the paper claims of edits, and whether it holds in a run."""

from __future__ import annotations

from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.rows import (
    MAIN_BUDGETS,
    attack_label,
    distinct_values,
    factor,
    find_pair,
    find_row,
    find_rows,
    format_estimate,
    format_pair,
    made_on,
    measured_value,
    rows_of,
    share_left,
)

# What the paper reports for PhotoGuard: FID falls from 221.1 to 68.42, and CLIP-I is 0.8832 afterwards (Lee et al. 2025).
WANTED_FACTOR, WANTED_CLIP_I = 3.2, 0.88
# A white-box attack should keep at most this share of the Fréchet distance.
WHITE_BOX_SHARE = 0.5

Verdict = tuple[bool, str]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    """Whether each claim of the paper (Lee et al. 2025, arXiv 2504.17219) holds in this run, with a sentence on its numbers."""
    rows = rows_of(result)
    found = _clean_verdicts(result)
    for attack in distinct_values(find_rows(rows, access="transfer"), "attack"):
        for eps in MAIN_BUDGETS:
            if both := find_pair(rows, attack=attack, eps=eps):
                found += _attack_verdicts(rows, both)
    return found + _purifier_verdicts(result, rows)


def _attack_verdicts(rows: list[Row], both: tuple[Row, Row]) -> list[Verdict]:
    before, after = both
    attack, eps = attack_label(before), before.condition["eps"]
    divided, likeness = factor(*both), measured_value(after, "clip_i")
    text = (
        f"{attack}, {eps}, transfer: Fréchet distance {format_pair(both, 'frechet', '.1f')}, a factor of {divided:.2f} "
        f"(wanted at least {WANTED_FACTOR}); CLIP-I {format_pair(both, 'clip_i', '.3f')} (wanted above {WANTED_CLIP_I})"
    )
    found = [(divided >= WANTED_FACTOR and likeness > WANTED_CLIP_I, text)]
    if row := find_row(rows, attack=before.condition["attack"], eps=eps, defence="hardened", access="white-box"):
        share = share_left(before, row)
        text = f"{attack}, {eps}, white-box: {share:.0%} of the Fréchet distance is left (wanted at most half)"
        found.append((share <= WHITE_BOX_SHARE, text))
    return found


def _clean_verdicts(result: dict[str, Any]) -> list[Verdict]:
    both = find_pair(rows_of(result, "reconstruction"))
    found: list[Verdict] = []
    if both:
        before, after = both
        sharper = measured_value(after, "psnr") > measured_value(before, "psnr")
        closer = measured_value(after, "distance") < measured_value(before, "distance")
        text = (
            f"clean reconstruction: {format_pair(both, 'psnr', '.2f')} dB, {result['protocol']['pairs']} distance "
            f"{format_pair(both, 'distance', '.3f')} (wanted: both better)"
        )
        found.append((sharper and closer, text))
    floor = find_row(rows_of(result, "floor"), compared="other noise")
    moved = find_row(rows_of(result), attack="none", defence="hardened")
    if floor and moved:
        numbers = [format_estimate(row.measures["frechet"], ".1f", interval=False) for row in (moved, floor)]
        text = (
            f"clean edits: Fréchet distance {numbers[0]} from those of the original VAE "
            f"(wanted below {numbers[1]}, which another draw of noise gives)"
        )
        found.append((measured_value(moved, "frechet") < measured_value(floor, "frechet"), text))
    return found


def _purifier_verdicts(result: dict[str, Any], rows: list[Row]) -> list[Verdict]:
    found = []
    for defence in distinct_values(rows, "defence"):
        own = [row for row in find_rows(rows, defence=defence) if row.condition["eps"] in MAIN_BUDGETS and made_on(row)]
        if defence in VAE_OF or not own:
            continue
        worse = [row.condition["attack"] for row in own if _beats_hardening(rows, row)]
        text = f"better than hardening on {', '.join(map(str, worse))}"
        text = text if worse else f"hardening is at least as good on all {len(own)} sets"
        if cost := result["costs"].get("purifiers", {}).get(defence):
            text += f"; it takes {cost['seconds']:.2g} s per image, hardening takes none"
        found.append((not worse, f"{defence}: {text}"))
    return found


def _beats_hardening(rows: list[Row], row: Row) -> bool:
    both = find_pair(rows, attack=row.condition["attack"], eps=row.condition["eps"])
    return both is not None and measured_value(row, "frechet") < measured_value(both[1], "frechet")
