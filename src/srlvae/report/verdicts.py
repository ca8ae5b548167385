"""What the paper claims of edits, and whether it holds in a run."""

from __future__ import annotations

from typing import Any

from srlvae.bench.rows import VAE_OF, Row
from srlvae.report.editing import headline_measures
from srlvae.report.numbers import THOUSANDTHS, format_estimate, heading
from srlvae.report.rows import (
    MAIN_BUDGETS,
    attack_label,
    distinct_values,
    find_pair,
    find_row,
    find_rows,
    format_factor,
    format_pair,
    main_rows,
    measured_value,
    rows_of,
    share_left,
)

# What the paper reports for PhotoGuard: FID falls from 221.1 to 68.42, and CLIP-I is 0.8832 afterwards (Lee et al. 2025).
WANTED_FACTOR, WANTED_CLIP_I = 3.2, 0.88
# What a white-box attack should keep at most: of the KID, and of the distance between pairs.
WHITE_BOX_SHARE = 0.6

Verdict = tuple[bool, str]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    """Whether each claim of the paper (Lee et al. 2025, arXiv 2504.17219) holds in this run, with a sentence on its numbers."""
    rows = main_rows(rows_of(result))
    found = _clean_verdicts(result)
    for attack in distinct_values(find_rows(rows, access="transfer"), "attack"):
        for eps in MAIN_BUDGETS:
            if both := find_pair(rows, attack=attack, eps=eps):
                found += _attack_verdicts(result, rows, both)
    return found + _purifier_verdicts(result, rows)


def _attack_verdicts(result: dict[str, Any], rows: list[Row], both: tuple[Row, Row]) -> list[Verdict]:
    before, after = both
    attack, eps = attack_label(before), before.condition["eps"]
    kid, frechet, likeness = headline_measures(result).values()
    if min(measured_value(before, m.key) for m in (kid, frechet)) <= 0:
        return [(False, f"{attack}, {eps}: no effect with the original VAE that {before.n} edits could show")]
    divided = {m: reaches(before, after, m.key, WANTED_FACTOR) for m in (kid, frechet)}
    said = [f"{m.title} {format_pair(both, m.key, m.spec)}, a factor of {format_factor(*both, m.key)}" for m in divided]
    text = (
        f"{attack}, {eps}, transfer: {'; '.join(said)} (wanted at least {WANTED_FACTOR} in both); "
        f"CLIP-I {format_pair(both, 'clip_i', '.3f')} (wanted above {WANTED_CLIP_I})"
    )
    found = [(all(divided.values()) and measured_value(after, likeness.key) > WANTED_CLIP_I, text)]
    if row := find_row(rows, attack=before.condition["attack"], eps=eps, defence="hardened", access="white-box"):
        shares = [share_left(before, row, key) for key in ("kid", "distance")]
        text = (
            f"{attack}, {eps}, white-box: {shares[0]:.0%} of the KID and {shares[1]:.0%} of the distance between "
            f"pairs are left (wanted at most {WHITE_BOX_SHARE:.0%})"
        )
        found.append((max(shares) <= WHITE_BOX_SHARE, text))
    return found


def reaches(before: Row, after: Row, measure: str, wanted: float) -> bool:
    """Whether a measure falls by the wanted factor: nothing left of it, or less than nothing, does."""
    return measured_value(before, measure) >= wanted * measured_value(after, measure)


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
    if moved := find_row(rows_of(result), attack="none", defence="hardened"):
        kid = moved.measures["kid"]
        moved_by = f"{heading('KID', THOUSANDTHS)} {format_estimate(kid, THOUSANDTHS)}"
        text = f"clean edits: {moved_by} from those of the original VAE (wanted: an interval that does not lie above 0)"
        found.append((kid.low is not None and kid.low <= 0, text))
    return found


def _purifier_verdicts(result: dict[str, Any], rows: list[Row]) -> list[Verdict]:
    found = []
    for defence in distinct_values(rows, "defence"):
        own = [row for row in find_rows(rows, defence=defence, access="transfer") if _compares(rows, row)]
        if defence in VAE_OF or not own:
            continue
        worse = [row.condition["attack"] for row in own if _beats_hardening(rows, row)]
        text = f"better than hardening on {', '.join(map(str, worse))}"
        text = text if worse else f"hardening is at least as good on all {len(own)} sets"
        if cost := result["costs"].get("purifiers", {}).get(defence):
            text += f"; it takes {cost['seconds']:.2g} s per image, hardening takes none"
        found.append((not worse, f"{defence}: {text}"))
    return found


def _compares(rows: list[Row], row: Row) -> bool:
    """Whether a row has a main budget, and its attack an effect on edits with the original VAE by KID."""
    both = find_pair(rows, attack=row.condition["attack"], eps=row.condition["eps"])
    return row.condition["eps"] in MAIN_BUDGETS and both is not None and measured_value(both[0], "kid") > 0


def _beats_hardening(rows: list[Row], row: Row) -> bool:
    both = find_pair(rows, attack=row.condition["attack"], eps=row.condition["eps"])
    return both is not None and measured_value(row, "kid") < measured_value(both[1], "kid")
