"""What the paper claims of edits, and whether it holds in a run."""

from __future__ import annotations

from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.rows import (
    MAIN_BUDGETS,
    arrow,
    factor,
    find,
    made_on,
    one,
    pair,
    rows_of,
    share_left,
    shown,
    value,
    values_of,
)

# What the paper reports for PhotoGuard: FID 221.1 to 68.42, and CLIP-I 0.8832 afterwards (Lee et al. 2025).
FACTOR, CLIP_I = 3.2, 0.88
# White-box attacks are to keep at most this share of the distance.
WHITE_BOX = 0.5

Verdict = tuple[bool, str]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    """What the paper claims, line by line: whether it holds in this run, and the numbers."""
    rows = rows_of(result)
    found = _clean_verdicts(result)
    for attack in values_of(find(rows, access="transfer"), "attack"):
        for eps in MAIN_BUDGETS:
            if both := pair(rows, attack=attack, eps=eps):
                found += _attack_verdicts(rows, both)
    return found + _purifier_verdicts(result, rows)


def _attack_verdicts(rows: list[Row], both: tuple[Row, Row]) -> list[Verdict]:
    before, after = both
    attack, eps = before.condition["attack"], before.condition["eps"]
    divided, likeness = factor(*both), value(after, "clip_i")
    text = (
        f"{attack}, {eps}, transfer: Fréchet distance {arrow(both, 'frechet', '.1f')}, a factor of {divided:.2f} "
        f"(wanted {FACTOR}); CLIP-I {arrow(both, 'clip_i', '.3f')} (wanted above {CLIP_I})"
    )
    found = [(divided >= FACTOR and likeness > CLIP_I, text)]
    if row := one(rows, attack=attack, eps=eps, defence="hardened", access="white-box"):
        share = share_left(before, row)
        text = f"{attack}, {eps}, white-box: {share:.0%} of the distance is left (wanted at most half)"
        found.append((share <= WHITE_BOX, text))
    return found


def _clean_verdicts(result: dict[str, Any]) -> list[Verdict]:
    both = pair(rows_of(result, "reconstruction"))
    found: list[Verdict] = []
    if both:
        before, after = both
        better = value(after, "psnr") > value(before, "psnr") and value(after, "distance") < value(before, "distance")
        text = (
            f"clean reconstruction: {arrow(both, 'psnr', '.2f')} dB, {result['protocol']['pairs']} distance "
            f"{arrow(both, 'distance', '.3f')} (wanted better)"
        )
        found.append((better, text))
    floor = one(rows_of(result, "floor"), compared="other noise")
    moved = one(rows_of(result), attack="none", defence="hardened")
    if floor and moved:
        numbers = [shown(row.measures["frechet"], ".1f", interval=False) for row in (moved, floor)]
        text = "clean edits: {} from those of the original VAE, another draw of noise moves these by {}".format(*numbers)
        found.append((value(moved, "frechet") < value(floor, "frechet"), text))
    return found


def _purifier_verdicts(result: dict[str, Any], rows: list[Row]) -> list[Verdict]:
    found = []
    for defence in values_of(rows, "defence"):
        own = [row for row in find(rows, defence=defence) if row.condition["eps"] in MAIN_BUDGETS and made_on(row)]
        if defence in VAE_OF or not own:
            continue
        worse = [row.condition["attack"] for row in own if _beats_hardening(rows, row)]
        text = f"better than hardening on {', '.join(map(str, worse))}"
        text = text if worse else f"hardening is at least as good on all {len(own)} sets"
        if cost := result["costs"].get("purifiers", {}).get(defence):
            text += f"; it takes {cost['seconds']:.2g} s an image, hardening none"
        found.append((not worse, f"{defence}: {text}"))
    return found


def _beats_hardening(rows: list[Row], row: Row) -> bool:
    both = pair(rows, attack=row.condition["attack"], eps=row.condition["eps"])
    return both is not None and value(row, "frechet") < value(both[1], "frechet")
