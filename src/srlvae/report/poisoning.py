"""The tables and curves of the poisoning benchmark, for its page, the terminal, README and docs alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from srlvae.bench.poison_defences import SCAN
from srlvae.bench.rows import VAE_OF, Estimate, Row
from srlvae.config import fraction
from srlvae.metrics.shares import clustered_interval
from srlvae.report.numbers import format_share
from srlvae.report.plots import Point
from srlvae.report.rows import (
    Table,
    defence_label,
    distinct_values,
    find_rows,
    group_rows,
    made_on,
    main_rows,
    measured_value,
    rows_of,
)

SHARES = ("target", "concept", "others")


def pooled_share(rows: Iterable[Row], measure: str) -> Estimate:
    """A share over the images of all rows, the mean of the pairs' shares, with its 95 % interval *for these pairs*.

    The interval is over fine-tunings of the same pairs; see `clustered_interval`. With a single fine-tuning of each pair it is
    over images, as if these were independent.
    """
    rows = list(rows)
    # Without poison, all pairs share a fine-tuning.
    strata = group_rows(rows, lambda row: _pair_of(row) if row.condition["poisons"] else "all pairs")
    shares = [_of_fine_tunings(own, measure) for own in strata.values()]
    n = sum(row.measures[measure].n for row in rows)
    return Estimate(fmean(map(fmean, shares)), *clustered_interval(shares, n), n)


def share_over_pairs(rows: Iterable[Row], measure: str) -> Estimate | None:
    """The same share with its 95 % interval *over pairs*: these pairs are a sample of those that could have been chosen.

    It is None if there is a single pair.
    """
    rows = list(rows)
    shares = [fmean(_of_fine_tunings(own, measure)) for own in group_rows(rows, _pair_of).values()]
    n = sum(row.measures[measure].n for row in rows)
    return Estimate(fmean(shares), *clustered_interval([shares], n), n) if len(shares) > 1 else None


def _of_fine_tunings(rows: Iterable[Row], measure: str) -> list[float]:
    """The share in the images of each fine-tuning."""
    tuned = group_rows(rows, lambda row: row.condition["seed"])
    return [fmean(measured_value(row, measure) for row in own) for own in tuned.values()]


def format_pooled(rows: Iterable[Row], measure: str) -> str:
    """The pooled share of a measure with both of its intervals, as text."""
    rows = list(rows)
    pairs = share_over_pairs(rows, measure)
    over = f"; over pairs {format_share(pairs).partition(' % ')[2]}" if pairs else ""
    return format_share(pooled_share(rows, measure)) + over


def largest_budget(result: Mapping[str, Any]) -> str:
    """The largest ε of a result, at which the number of poisons is swept."""
    return max(result["protocol"]["eps"], key=fraction)


def largest_count(result: Mapping[str, Any]) -> int:
    """The largest number of poisons of a result."""
    return max(result["protocol"]["counts"])


def poison_counts(result: Mapping[str, Any]) -> list[int]:
    """The numbers of poisons of a result in increasing order, with 0 for no poison."""
    return sorted({0, *result["protocol"]["counts"]})


def swept_rows(result: Mapping[str, Any], defence: str, poisons: int, **condition: Any) -> list[Row]:
    """The rows of a defence at one number of poisons.

    Poison is that made on the original VAE, at the largest ε unless `condition` names another.
    """
    found = find_rows(main_rows(rows_of(result)), defence=defence, poisons=poisons, **condition)
    if not poisons:
        return found
    eps = condition.get("eps", largest_budget(result))
    return [row for row in find_rows(found, eps=eps) if made_on(row) == "original"]


def counts_table(result: Mapping[str, Any]) -> Table:
    """How often images are called the target and the concept, by the number of poisons and by VAE. All pairs are pooled."""
    lines = []
    for count in poison_counts(result):
        shares = [swept_rows(result, defence, count) for defence in VAE_OF]
        lines.append([str(count), *(format_pooled(own, measure) if own else "" for measure in SHARES[:2] for own in shares)])
    header = [f"{measure}, {vae}" for measure in SHARES[:2] for vae in VAE_OF.values()]
    return ["poisons", *header], lines


def pairs_table(result: Mapping[str, Any]) -> Table:
    """How often images are called the target, with the interval over fine-tunings, and in brackets the concept."""
    lines = []
    for pair in result["protocol"]["pairs"]:
        for defence, vae in VAE_OF.items():
            cells = [swept_rows(result, defence, count, **pair) for count in poison_counts(result)]
            lines.append([f"{pair['concept']} → {pair['target']}", vae, *map(_target_and_concept, cells)])
    return [
        "concept → target",
        "VAE",
        *(f"{count} poisons" if count else "no poison" for count in poison_counts(result)),
    ], lines


def _target_and_concept(rows: list[Row]) -> str:
    if not rows:
        return ""
    target, concept = (pooled_share(rows, measure) for measure in ("target", "concept"))
    return f"{format_share(target)} ({format_share(concept, interval=False)})"


def defences_table(result: Mapping[str, Any], likeness: bool = False) -> Table:
    """How each defence does against the largest number of poisons.

    The columns are the shares of images called the target and called the concept, and the share of images of other concepts
    that are called what they were generated for. With `likeness` there is also the mean CLIP-T of images of other concepts.
    """
    lines = []
    for name, own in _against_most(result).items():
        if own:
            clip_t = [f"{sum(measured_value(row, 'clip_t') for row in own) / len(own):.3f}"] if likeness else []
            lines.append([name, *(format_pooled(own, measure) for measure in SHARES), *clip_t])
    header = [f"defence, at {largest_count(result)} poisons of {largest_budget(result)}", "target", "concept", "other concepts"]
    return [*header, *(["CLIP-T of other concepts"] if likeness else [])], lines


def _against_most(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows at the largest number of poisons, for each defence and kind of poison, by the label that a table gives it."""
    rows, number = rows_of(result), largest_count(result)
    found = {f"{vae}, no poison": swept_rows(result, defence, 0) for defence, vae in VAE_OF.items()}
    found |= {vae: swept_rows(result, defence, number) for defence, vae in VAE_OF.items()}
    for eps in sorted(set(result["protocol"]["eps"]) - {largest_budget(result)}, key=fraction):
        found |= {f"{vae}, {eps}": swept_rows(result, defence, number, eps=eps) for defence, vae in VAE_OF.items()}
    for attack in dict.fromkeys(row.condition["attack"] for row in rows if "of" in row.condition):
        found |= {f"{vae}, {attack}": find_rows(rows, defence=defence, attack=attack) for defence, vae in VAE_OF.items()}
    others = [defence for defence in distinct_values(rows, "defence") if defence not in VAE_OF]
    found |= {defence: swept_rows(result, defence, number) for defence in others}
    found["filtered by scan"] = found.pop(SCAN, [])
    found["hardened, white-box poison"] = find_rows(rows, defence="hardened", access="white-box", poisons=number)
    found["original, wrong captions"] = find_rows(rows, defence="none", attack="dirty-label", poisons=number)
    return found


def poisoning_table(result: Mapping[str, Any]) -> Table:
    """All numbers: a line for each pair, kind of poison, ε and number of poisons, and a column for each defence.

    Cells have the share of images called the target and, in brackets, the share called the concept.
    """
    rows = rows_of(result)
    defences = distinct_values(rows, "defence")
    lines = group_rows(rows, lambda row: (*_pair_of(row), row.condition["attack"], made_on(row), row.condition["eps"]))
    found = []
    for (concept, target, attack, on, eps), of_set in lines.items():
        for count, own in group_rows(of_set, lambda row: row.condition["poisons"]).items():
            poison = f"{attack}, {'white-box' if on == 'hardened' else 'transfer'}" if on else attack
            cells = [_target_and_concept(find_rows(own, defence=defence)) for defence in defences]
            found.append([f"{concept} → {target}", poison, "" if eps == "0" else eps, str(count), *cells])
    return ["concept → target", "poison", "ε", "poisons", *map(defence_label, defences)], found


def _pair_of(row: Row) -> tuple[Any, Any]:
    return row.condition["concept"], row.condition["target"]


def curves(result: Mapping[str, Any], eps: str) -> dict[str, dict[str, list[Point]]]:
    """Curves at one ε: for each pair, by the label of the defence and poison, the share called the target over the number."""
    return {
        f"{pair['concept']} → {pair['target']}": _lines(find_rows(main_rows(rows_of(result)), **pair), eps)
        for pair in result["protocol"]["pairs"]
    }


def _lines(rows: list[Row], eps: str) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    poisoned = [row for row in rows if row.condition["poisons"]]
    for defence, attack, on in dict.fromkeys((row.defence, row.condition["attack"], made_on(row)) for row in poisoned):
        own = [row for row in find_rows(poisoned, defence=defence, attack=attack) if made_on(row) == on]
        own = [row for row in own if row.condition["eps"] in (eps, "0")] + find_rows(rows, defence=defence, poisons=0)
        kind = "" if on == "original" else f", {'white-box' if on else attack}"
        by_count = {count: find_rows(own, poisons=count) for count in sorted(distinct_values(own, "poisons"))}
        if any(by_count):  # there is poison of that ε
            estimates = {count: pooled_share(same, "target") for count, same in by_count.items()}
            found[defence_label(defence) + kind] = [(float(count), e.value, (e.low, e.high)) for count, e in estimates.items()]
    return found
