"""The one row that every benchmark writes: what was done to the images, what defended, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srlvae.errors import InputError

Access = Literal["none", "transfer", "white-box"]
Condition = dict[str, str | int | float]

# What the edits and reconstructions of the two VAEs themselves are called among the defences, and the VAE that each one is.
VAE_OF = {"none": "original", "hardened": "hardened"}


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over the `n` images, pairs or photographs that it was measured on.

    value: None where the measure is infinite on all of them, as PSNR is on equal images. low, high: None where there is no
    interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """What was measured in one condition under one defence.

    condition: `attack` (`none` for clean images), its budget `eps` (written `15/255`, `0` for none), and whatever else the
    benchmark varies. access: what the attacker knew, see `access_of`. defence: `none` for the original VAE, `hardened`, or a
    purifier before the original VAE. n: images. measures: estimates under plain names; the protocol says by which networks.
    doubts: what speaks against believing the attack, an entry an image that it was seen on.
    """

    condition: Condition
    access: Access
    defence: str
    n: int
    measures: dict[str, Estimate]
    doubts: list[str] = field(default_factory=list)


def access_of(made_on: str, defence: str) -> Access:
    """What an attacker knew who made the images on the VAE called `made_on`: `original`, `hardened`, or blank for no VAE.

    `none` for images that no VAE had a part in: clean ones, uniform noise, wrong captions. `white-box` where the attacked VAE
    is the one that is judged, else `transfer`; purifiers are always `transfer`, since no attack goes through them.
    """
    if not made_on:
        return "none"
    return "white-box" if VAE_OF.get(defence) == made_on else "transfer"


def as_data(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as JSON holds them."""
    return [asdict(row) for row in rows]


def read_rows(data: list[dict[str, Any]]) -> list[Row]:
    """The rows that `as_data` made plain. Raises InputError for anything else."""
    try:
        return [Row(**{**row, "measures": read_measures(row["measures"])}) for row in data]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"these are no rows of a benchmark of this version: {error!r}; run the benchmark again") from error


def read_measures(data: dict[str, dict[str, Any]]) -> dict[str, Estimate]:
    """The estimates of a row, from plain data."""
    return {name: Estimate(**found) for name, found in data.items()}
