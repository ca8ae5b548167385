"""Rows of results: finding them, comparing them and writing their numbers. Whatever shows a number calls this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from srlvae.bench.rows import VAE_OF, Access, Estimate, Row, read_rows
from srlvae.config import fraction

Table = tuple[list[str], list[list[str]]]

# The budgets of what is said of a run in one number, and the one that tables put first where they have it.
MAIN_BUDGETS = ("15/255", "16/255")
MAIN_BUDGET = "15/255"
NO_ATTACK = ("none", "uniform-noise")


def rows_of(result: Mapping[str, Any], key: str = "rows") -> list[Row]:
    """The rows of a result. Raises InputError where they are not those of this version."""
    return read_rows(result[key])


def find(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values of `access`, `defence`, or keys of the condition."""
    return [row for row in rows if all(_said(row, key) == value for key, value in wanted.items())]


def one(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """The only row with these values; None where there is none. Raises ValueError where there are several."""
    found = find(rows, **wanted)
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows have {wanted}, one was expected")
    return found[0] if found else None


def values_of(rows: Iterable[Row], key: str) -> list[Any]:
    """Every value of `access`, `defence` or a key of the condition, once, in the order of the rows."""
    return list(dict.fromkeys(value for row in rows if (value := _said(row, key)) is not None))


def _said(row: Row, key: str) -> Any:
    return getattr(row, key) if key in ("access", "defence", "n") else row.condition.get(key)


def made_on(row: Row) -> str:
    """The VAE that the row's attack was made on, `original` or `hardened`; blank where there was none."""
    if row.access == "none":
        return ""
    return VAE_OF[row.defence] if row.access == "white-box" else "original"


def pair(rows: Iterable[Row], access: Access = "transfer", **condition: Any) -> tuple[Row, Row] | None:
    """The original VAE's row in a condition, under what was made on it, and the hardened one's; None where one is missing.

    access: to the hardened VAE. Clean images and noise have rows without access alone.
    """
    rows = find(rows, **condition)
    before = one(rows, defence="none")
    after = one(rows, defence="hardened", access="none" if before and before.access == "none" else access)
    return (before, after) if before and after else None


def value(row: Row, measure: str) -> float:
    """The value of a measure. Raises ValueError where the row has none."""
    found = row.measures[measure].value
    if found is None:
        raise ValueError(f"{measure} is infinite on all images of {row.condition} under {row.defence}")
    return found


def factor(before: Row, after: Row, measure: str = "frechet") -> float:
    """How many times larger a measure was before."""
    return value(before, measure) / value(after, measure)


def share_left(before: Row, after: Row, measure: str = "frechet") -> float:
    """Which share of a measure is left."""
    return value(after, measure) / value(before, measure)


def main_budget(rows: Iterable[Row]) -> str:
    """The budget that a table puts first: MAIN_BUDGET, or the largest where the rows have no such."""
    found = budgets(rows)
    return MAIN_BUDGET if MAIN_BUDGET in found or not found else found[-1]


def budgets(rows: Iterable[Row]) -> list[str]:
    """The budgets of the rows' attacks, the smallest first."""
    found = {str(row.condition["eps"]) for row in rows if row.condition["attack"] not in NO_ATTACK}
    return sorted(found, key=fraction)


def grey_levels(row: Row) -> float:
    """The row's ε in 255ths, for the axis of a plot."""
    return fraction(str(row.condition["eps"])) * 255


def shown(estimate: Estimate, spec: str, interval: bool = True) -> str:
    """An estimate as text, with its interval where it has one and is wanted. spec: of its numbers, such as `.1f` or `.0%`."""
    if estimate.value is None:
        return "equal"
    value, *ends = (_number(v, spec) for v in (estimate.value, estimate.low, estimate.high) if v is not None)
    return f"{value} [{', '.join(ends)}]" if ends and interval else value


def _number(value: float, spec: str) -> str:
    """Formatted, with no minus before a zero."""
    text = format(value, spec)
    return text[1:] if text.startswith("-") and not text.strip("-0.%") else text


def arrow(found: tuple[Row, Row] | None, measure: str, spec: str, interval: bool = False) -> str:
    """`original → hardened`, or nothing where there is no such pair."""
    return " → ".join(shown(row.measures[measure], spec, interval) for row in found) if found else ""


def percent(estimate: Estimate) -> str:
    """A share for running text and tables, without its interval: `62 %`."""
    return shown(estimate, ".0%", interval=False).replace("%", " %")


def named(defence: str) -> str:
    """A defence in words."""
    return "no defence" if defence == "none" else defence


def cost_cells(costs: Mapping[str, Any], defence: str) -> list[str]:
    """Seconds, memory and network passes an image of a defence; blank before they are measured."""
    if defence == "none":
        return ["0"] * 3
    if defence == "hardened":
        encoder = costs.get("encoder")
        extra = f" (encoder: {(encoder['hardened'] - encoder['original']) * 1000:+.1f} ms)" if encoder else ""
        return [f"0{extra}", "0", "0"]
    cost = costs.get("purifiers", {}).get(defence)
    if not cost:
        return [""] * 3
    passes = ", ".join(f"{count:.0f} {network}" for network, count in cost["passes"].items() if count)
    return [f"{cost['seconds']:.2g}", f"{cost['memory'] / 1e6:.0f} MB", passes or "0"]


def by(key: Callable[[Row], Any], rows: Iterable[Row]) -> dict[Any, list[Row]]:
    """The rows by a key, in the order in which they come."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
