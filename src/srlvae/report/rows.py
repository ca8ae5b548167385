"""Finds rows of results and compares them, for everything that shows numbers; `report.numbers` writes these as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from srlvae.attacks.table import NOISES
from srlvae.bench.cells import BEFORE_HARDENED, MADE_ON
from srlvae.bench.rows import WORST_CASE, Access, Row, read_rows, vae_of
from srlvae.config import fraction
from srlvae.report.numbers import format_estimate, format_number

Table = tuple[list[str], list[list[str]]]

# The budgets of which a single number or verdict may speak, and the one that tables put first.
MAIN_BUDGETS = ("15/255", "16/255")
MAIN_BUDGET = "15/255"
NO_ATTACK = ("none", *NOISES)
# In place of a factor or a share of a distance that is not above zero, as an unbiased one of equal sets may be.
NO_DAMAGE = "– no distance to begin with"


def rows_of(result: Mapping[str, Any], key: str = "rows") -> list[Row]:
    """The rows of a result, by default those under `rows`.

    Raises InputError if they are not rows of this version.
    """
    return read_rows(result[key])


def find_rows(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """All rows with the given values of `access`, `defence`, `n`, or keys of the condition."""
    return [row for row in rows if all(_field(row, key) == value for key, value in wanted.items())]


def find_row(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """The only row with the given values, or None if there is none.

    Raises ValueError if there are several.
    """
    found = find_rows(rows, **wanted)
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows have {wanted}, one was expected")
    return found[0] if found else None


def distinct_values(rows: Iterable[Row], key: str) -> list[Any]:
    """Every value that the rows have of `access`, `defence`, or a key of the condition.

    Each value is listed once, in the order of the rows.
    """
    return list(dict.fromkeys(value for row in rows if (value := _field(row, key)) is not None))


def _field(row: Row, key: str) -> Any:
    return getattr(row, key) if key in ("access", "defence", "n") else row.condition.get(key)


def attack_label(row: Row) -> str:
    """The name of a row's attack for readers."""
    return label(row.condition["attack"], row.condition.get("norm"))


def label(attack: Any, norm: Any = None) -> str:
    """The name of an attack for readers: with the norm of its budget, if that is no bound on each pixel."""
    return f"{attack} ({norm})" if norm else str(attack)


def made_on(row: Row) -> str:
    """What the row's images were made on: `original`, `hardened`, `both`, `twin`, or blank for no VAE."""
    if row.access == "none":
        return ""
    return str(row.condition.get("made_on", vae_of(row.defence) if row.access == "white-box" else "original"))


def main_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows of attacks as they are chosen, without variants of them and without the worst cases of several."""
    return [row for row in rows if "of" not in row.condition and not is_worst_case(row)]


def is_worst_case(row: Row) -> bool:
    """Whether a row is of the edits that are chosen, image by image, from those of several attacks."""
    return row.condition["attack"] == WORST_CASE


def doubts_of(result: Mapping[str, Any]) -> list[str]:
    """What speaks against believing a run as a whole, and its attacks, with the number of photographs on which it was seen.

    Rows under several defences have attacked photographs in common, so the row with the most of them counts.
    """
    seen: dict[str, int] = {}
    for row in rows_of(result):
        for doubt, count in Counter(row.doubts).items():
            said = f"{_attack_of(row)}: {doubt}"
            seen[said] = max(count, seen.get(said, 0))
    return [*result.get("doubts", []), *(f"{doubt} (photographs: {count})" for doubt, count in seen.items())]


def _attack_of(row: Row) -> str:
    """The attack of a row in words, with the concepts or the style of its photographs, if it has those."""
    about = row.condition
    subjects = [" → ".join(str(about[key]) for key in keys) for keys in (("concept", "target"), ("style",)) if keys[0] in about]
    return f"{', '.join([*subjects, str(about['attack'])])} at {about['eps']} made on the {made_on(row)} VAE"


def find_pair(rows: Iterable[Row], access: Access = "transfer", **condition: Any) -> tuple[Row, Row] | None:
    """The original VAE's row and the hardened VAE's row in one condition, or None if one of them is missing.

    `access` is the attacker's access to the hardened VAE. Clean images and noise have no attacker, so there it is not used. The
    original VAE's row is always under the attack made on itself.
    """
    rows = find_rows(rows, **condition)
    before = find_row(rows, defence="none")
    if before and before.access == "none":
        access = "none"
    elif before and made_on(before) in MADE_ON:
        access = "white-box" if made_on(before) == "both" else "transfer"
    after = find_row(rows, defence="hardened", access=access)
    return (before, after) if before and after else None


def measured_value(row: Row, measure: str) -> float:
    """The value of a measure in a row.

    Raises ValueError if the row has none, since the measure was infinite.
    """
    found = row.measures[measure].value
    if found is None:
        raise ValueError(f"{measure} is infinite on all images of {row.condition} under {row.defence}")
    return found


def factor(before: Row, after: Row, measure: str) -> float:
    """How many times larger a measure is in the first row than in the second."""
    return measured_value(before, measure) / measured_value(after, measure)


def format_factor(before: Row, after: Row, measure: str) -> str:
    """The factor as text, if the first number is above zero.

    Where the second one is not, the factor is the least that its interval leaves.
    """
    value, high = measured_value(after, measure), after.measures[measure].high
    if measured_value(before, measure) <= 0:
        return NO_DAMAGE
    if value > 0:
        return f"{factor(before, after, measure):.1f}"
    return f"> {measured_value(before, measure) / high:.1f}" if high and high > 0 else "no distance left"


def share_left(before: Row, after: Row, measure: str) -> float:
    """A measure in the second row as a share of the same in the first row."""
    return measured_value(after, measure) / measured_value(before, measure)


def format_share_left(before: Row, after: Row, measure: str) -> str:
    """The share that is left, as text in percent, if there was anything."""
    if measured_value(before, measure) <= 0:
        return NO_DAMAGE
    return f"{format_number(100 * share_left(before, after, measure), '.0f')} %"


def main_budget(rows: Iterable[Row]) -> str:
    """The budget that a table puts first: MAIN_BUDGET, or the largest one if the rows lack that."""
    found = budgets(rows)
    return MAIN_BUDGET if MAIN_BUDGET in found or not found else found[-1]


def budgets(rows: Iterable[Row]) -> list[str]:
    """The budgets of the attacks in the rows, such as `15/255`, in increasing order."""
    found = {str(row.condition["eps"]) for row in rows if row.condition["attack"] not in NO_ATTACK}
    return sorted(found, key=fraction)


def grey_levels(row: Row) -> float:
    """The row's ε in 255ths, for the axis of a plot."""
    return fraction(str(row.condition["eps"])) * 255


def format_pair(found: tuple[Row, Row] | None, measure: str, spec: str, interval: bool = False) -> str:
    """A measure of a pair of rows, written original → hardened. Blank if there is no pair."""
    return " → ".join(format_estimate(row.measures[measure], spec, interval) for row in found) if found else ""


def defence_label(defence: str) -> str:
    """The name of a defence for readers."""
    return "no defence" if defence == "none" else defence


def cost_cells(costs: Mapping[str, Any], defence: str) -> list[str]:
    """The seconds, memory and network passes that a defence takes for an image, as text.

    `costs` are those of a result. Cells are blank if the costs were not measured.
    """
    if defence == "none":
        return ["0"] * 3
    if defence == "hardened":
        encoder = costs.get("encoder")
        extra = f" (encoder: × {encoder['ratio']:.2f})" if encoder and "ratio" in encoder else ""
        return [f"0{extra}", "0", "0"]
    cost = costs.get("purifiers", {}).get(defence.removeprefix(BEFORE_HARDENED))
    if not cost:
        return [""] * 3
    passes = ", ".join(f"{count:.0f} {network}" for network, count in cost["passes"].items() if count)
    return [f"{cost['seconds']:.2g}", f"{cost['memory'] / 1e6:.0f} MB", passes or "0"]


def group_rows(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """The rows in groups with the same key. Groups and rows keep their order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
