"""Numbers of results as text, for tables, pages and the terminal alike."""

from __future__ import annotations

from srlvae.bench.rows import Estimate
from srlvae.metrics.shares import wilson_interval

# The format of KID, whose numbers are small: readers see a thousand times as much.
THOUSANDTHS = "1000×.1f"


def format_estimate(estimate: Estimate, spec: str, interval: bool = True) -> str:
    """An estimate as text, with its interval if it has one and `interval` is set.

    `spec` is the format of its numbers, such as `.1f` or `.0%`, or THOUSANDTHS for a thousand times the number. An estimate
    without a value is infinite, and shown as `equal`.
    """
    if estimate.value is None:
        return "equal"
    value, *ends = (format_number(v, spec) for v in (estimate.value, estimate.low, estimate.high) if v is not None)
    return f"{value} [{', '.join(ends)}]" if ends and interval else value


def heading(label: str, spec: str) -> str:
    """The label above numbers in a format: with the factor by which they are multiplied, if they are."""
    factor = spec.rpartition("×")[0]
    return f"{factor} × {label}" if factor else label


def format_number(value: float, spec: str) -> str:
    """The number as text, without a minus before zero."""
    factor, _, spec = spec.rpartition("×")
    text = format(value * float(factor or 1), spec)
    return text[1:] if text.startswith("-") and not text.strip("-0.%") else text


def format_share(estimate: Estimate, interval: bool = True) -> str:
    """A share as text in percent, such as `62 % [50, 73]`."""
    value, *ends = (format_number(100 * v, ".0f") for v in (estimate.value, estimate.low, estimate.high) if v is not None)
    return f"{value} % [{', '.join(ends)}]" if ends and interval else f"{value} %"


def counted(estimate: Estimate) -> Estimate:
    """A share of independent images with Wilson's 95 % interval, whatever interval it came with."""
    if estimate.value is None:
        return estimate
    return Estimate(estimate.value, *wilson_interval(estimate.value, estimate.n), estimate.n)
