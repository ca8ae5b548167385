"""The table of the mimicry benchmark, for its page, the terminal and docs alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from srlvae.bench.rows import Estimate, Row
from srlvae.metrics.shares import clustered_interval
from srlvae.report.numbers import format_share
from srlvae.report.rows import (
    Table,
    attack_label,
    defence_label,
    distinct_values,
    find_rows,
    group_rows,
    made_on,
    measured_value,
    rows_of,
)

IN_STYLE = "in_style"


def over_styles(rows: Iterable[Row], measure: str = IN_STYLE) -> Estimate:
    """A share over the images of all rows, the mean of the styles' shares, with its 95 % interval *for these styles*.

    The interval is over fine-tunings of the same styles; see `clustered_interval`. With a single fine-tuning of each it is over
    images, as if these were independent.
    """
    rows = list(rows)
    strata = group_rows(rows, lambda row: row.condition["style"])
    shares = [[measured_value(row, measure) for row in own] for own in strata.values()]
    n = sum(row.measures[measure].n for row in rows)
    return Estimate(fmean(map(fmean, shares)), *clustered_interval(shares, n), n)


def mimicry_table(result: Mapping[str, Any]) -> Table:
    """The share of generated images that the judge calls the style, by what protects the pictures and what the mimic does.

    There is a column for each style and one for all of them, followed by the mean probability that the judge gives the style.
    First come the judge's answers on rendered photographs and on images of the pipeline as it comes.
    """
    rows = rows_of(result)
    styles = distinct_values(rows, "style")
    baselines = {"rendered": "photographs, rendered", "untuned": "not fine-tuned"}
    lines = [[label, "", *_cells(rows_of(result, key), styles)] for key, label in baselines.items()]
    for (attack, eps, on), own in group_rows(rows, _protection).items():
        protection = "not protected" if attack == "none" else f"{attack}, {eps}" + (", white-box" if on == "hardened" else "")
        for defence, same in group_rows(own, lambda row: row.defence).items():
            lines.append([protection, defence_label(defence), *_cells(same, styles)])
    return ["protection", "the mimic's method", *styles, "all styles", "probability"], lines


def _protection(row: Row) -> tuple[str, Any, str]:
    return attack_label(row), row.condition["eps"], made_on(row)


def _cells(rows: list[Row], styles: list[str]) -> list[str]:
    """The cells of a line; of a style without rows yet, the cell is blank."""
    if not rows:
        return [""] * (len(styles) + 2)
    found = [find_rows(rows, style=style) for style in styles]
    by_style = [format_share(over_styles(own), interval=False) if own else "" for own in found]
    return [*by_style, format_share(over_styles(rows)), f"{fmean(measured_value(row, 'probability') for row in rows):.2f}"]
