"""Rows of the poisoning benchmark → its tables and curves, for the page, the terminal, README and docs alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from srlvae.bench.poison_defences import SCAN
from srlvae.bench.rows import VAE_OF, Estimate, Row
from srlvae.config import fraction
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.report.plots import Point
from srlvae.report.rows import Table, by, find, made_on, named, rows_of, shown, value, values_of

SHARES = ("target", "concept", "others")


def pooled(rows: Iterable[Row], measure: str) -> Estimate:
    """The share over the images of all rows, with its 95 % interval over the fine-tunings that they are of, or, where there is
    one alone, over its images."""
    values, groups = [], []
    numbers: dict[tuple, int] = {}
    for row in rows:
        count = row.measures[measure].n
        yes, about = round(value(row, measure) * count), row.condition
        # Without poison all pairs share a fine-tuning.
        tuned = (about["seed"], *((about["concept"], about["target"]) if about["poisons"] else ()))
        values += [1.0] * yes + [0.0] * (count - yes)
        groups += [numbers.setdefault(tuned, len(numbers))] * count
    found, of = torch.tensor(values), torch.tensor(groups) if len(numbers) > 1 else None
    low, high = bootstrap_interval(found, torch.Generator().manual_seed(0), groups=of)
    return Estimate(found.mean().item(), low, high, len(values))


def share(rows: Iterable[Row], measure: str) -> str:
    """`pooled`, in words."""
    return shown(pooled(rows, measure), ".0%")


def widest(result: Mapping[str, Any]) -> str:
    """The largest budget of a sweep, which has every number of poisons."""
    return max(result["protocol"]["eps"], key=fraction)


def most(result: Mapping[str, Any]) -> int:
    """The largest number of poisons."""
    return max(result["protocol"]["counts"])


def counts(result: Mapping[str, Any]) -> list[int]:
    """The numbers of poisons, from none on."""
    return sorted({0, *result["protocol"]["counts"]})


def swept(result: Mapping[str, Any], defence: str, poisons: int, **condition: Any) -> list[Row]:
    """Rows of that many poisons of the largest budget, made on the original VAE, or of none."""
    found = find(rows_of(result), defence=defence, poisons=poisons, **condition)
    if not poisons:
        return found
    eps = condition.get("eps", widest(result))
    return [row for row in find(found, eps=eps) if made_on(row) == "original"]


def counts_table(result: Mapping[str, Any]) -> Table:
    """A line a number of poisons, all pairs together: images called the target, and the concept."""
    lines = []
    for count in counts(result):
        shares = [swept(result, defence, count) for defence in VAE_OF]
        lines.append([str(count), *(share(own, measure) if own else "" for measure in SHARES[:2] for own in shares)])
    header = [f"{measure}, {vae}" for measure in SHARES[:2] for vae in VAE_OF.values()]
    return ["poisons", *header], lines


def pairs_table(result: Mapping[str, Any]) -> Table:
    """A line a pair and VAE, a column a number of poisons: images called the target, in brackets the concept."""
    lines = []
    for pair in result["protocol"]["pairs"]:
        for defence, vae in VAE_OF.items():
            cells = [swept(result, defence, count, **pair) for count in counts(result)]
            lines.append([f"{pair['concept']} → {pair['target']}", vae, *map(_target_and_concept, cells)])
    return ["shown as", "VAE", *(f"{count} poisons" if count else "no poison" for count in counts(result))], lines


def _target_and_concept(rows: list[Row]) -> str:
    if not rows:
        return ""
    target, concept = (shown(pooled(rows, measure), ".0%", interval=False) for measure in ("target", "concept"))
    return f"{target} ({concept})"


def defences_table(result: Mapping[str, Any], likeness: bool = False) -> Table:
    """A line a defence against the most poisons: images called the target and the concept, and other concepts themselves.

    likeness: also the CLIP-T of the images of other concepts.
    """
    lines = []
    for name, own in _against_most(result).items():
        if own:
            clip_t = [f"{sum(value(row, 'clip_t') for row in own) / len(own):.3f}"] if likeness else []
            lines.append([name, *(share(own, measure) for measure in SHARES), *clip_t])
    header = [f"at {most(result)} poisons of {widest(result)}", "target", "concept", "other concepts"]
    return [*header, *(["CLIP-T of those"] if likeness else [])], lines


def _against_most(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows of each defence and kind of poison, by what a table calls them."""
    rows, number = rows_of(result), most(result)
    found = {f"{vae}, no poison": swept(result, defence, 0) for defence, vae in VAE_OF.items()}
    found |= {vae: swept(result, defence, number) for defence, vae in VAE_OF.items()}
    for eps in sorted(set(result["protocol"]["eps"]) - {widest(result)}, key=fraction):
        found |= {f"{vae}, {eps}": swept(result, defence, number, eps=eps) for defence, vae in VAE_OF.items()}
    found |= {defence: swept(result, defence, number) for defence in values_of(rows, "defence") if defence not in VAE_OF}
    found["filtered by scan"] = found.pop(SCAN, [])
    found["hardened, white-box poison"] = find(rows, defence="hardened", access="white-box", poisons=number)
    found["original, wrong captions"] = find(rows, defence="none", attack="dirty-label", poisons=number)
    return found


def poisoning_table(result: Mapping[str, Any]) -> Table:
    """A line a pair, poison, access to the hardened VAE, budget and number; under each defence the shares called the target and
    the concept."""
    rows = rows_of(result)
    defences = values_of(rows, "defence")
    lines = by(lambda row: (*_pair_of(row), row.condition["attack"], made_on(row), row.condition["eps"]), rows)
    found = []
    for (concept, target, attack, on, eps), of_set in lines.items():
        for count, own in by(lambda row: row.condition["poisons"], of_set).items():
            poison = f"{attack}, {'white-box' if on == 'hardened' else 'transfer'}" if on else attack
            cells = [_target_and_concept(find(own, defence=defence)) for defence in defences]
            found.append([f"{concept} → {target}", poison, "" if eps == "0" else eps, str(count), *cells])
    return ["shown as", "poison", "ε", "poisons", *map(named, defences)], found


def _pair_of(row: Row) -> tuple[Any, Any]:
    return row.condition["concept"], row.condition["target"]


def curves(result: Mapping[str, Any], eps: str) -> dict[str, dict[str, list[Point]]]:
    """Of each pair, for each defence and poison: (N, share called the target, interval over fine-tunings)."""
    return {
        f"{pair['concept']} → {pair['target']}": _lines(find(rows_of(result), **pair), eps)
        for pair in result["protocol"]["pairs"]
    }


def _lines(rows: list[Row], eps: str) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    poisoned = [row for row in rows if row.condition["poisons"]]
    for defence, attack, on in dict.fromkeys((row.defence, row.condition["attack"], made_on(row)) for row in poisoned):
        own = [row for row in find(poisoned, defence=defence, attack=attack) if made_on(row) == on]
        own = [row for row in own if row.condition["eps"] in (eps, "0")] + find(rows, defence=defence, poisons=0)
        kind = "" if on == "original" else f", {'white-box' if on else attack}"
        by_count = {count: find(own, poisons=count) for count in sorted(values_of(own, "poisons"))}
        if any(by_count):  # poison of that ε
            estimates = {count: pooled(same, "target") for count, same in by_count.items()}
            found[named(defence) + kind] = [(float(count), e.value, (e.low, e.high)) for count, e in estimates.items()]
    return found
