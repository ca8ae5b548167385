"""The one row that every benchmark writes: what was done to the images, what defended them, and what was measured.

The result files of benchmarks in `results/` hold such rows under `rows`. Those of the editing benchmark also have rows under
`floor` and `reconstruction`. The fields of a row in JSON are those of `Row`, and each of its measures has the fields of
`Estimate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srlvae.errors import InputError

Access = Literal["none", "transfer", "white-box"]
# What rows call the worst of all attacks, image by image.
WORST_CASE = "worst case"
Condition = dict[str, str | int | float]

# The two defences that are a VAE alone, without a purifier, and which VAE each of them is.
VAE_OF = {"none": "original", "hardened": "hardened"}


def vae_of(defence: str) -> str:
    """The VAE behind a defence: `hardened` for that and for purifiers before it, such as `hardened+jpeg`, else `original`."""
    return "hardened" if defence.split("+")[0] == "hardened" else "original"


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval.

    - value: the number. It is None (`null` in JSON) if the measure is infinite for all images, as PSNR is for equal images.
    - low, high: the ends of the interval. They are None if no interval was computed.
    - n: how many images, or pairs of images, the number was measured on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """What was measured in one condition under one defence.

    - condition: what was done to the images; see below.
    - access: what the attacker knew of the judged VAE: `transfer`, `white-box`, or `none` if there was no attacker. See
      `access_of`.
    - defence: `none` for the original VAE, `hardened` for the hardened one, or the name of a purifier before the original one;
      `hardened+jpeg` is a purifier before the hardened one. In poisoning, `scan` leaves suspicious training images out. In
      mimicry, `best of 4` is the method, image by image, after which the image is most in the style.
    - n: the number of images measured.
    - measures: estimates by name; see below. The result's `protocol` names the networks that measured.
    - doubts: reasons not to believe the attack, one entry for each image on which the reason was seen.

    Every condition has two keys, and benchmarks add what else they vary.

    - `attack`: the name of an attack, `none` for clean images, or that of a noise, such as `uniform-noise`. In editing,
      `worst case` is of each edit the one that lies furthest, and such rows have its `distance` alone: a mixture of attacks
      may be nearer to the clean edits, as a set, than any attack in it. In poisoning, `dirty-label` is wrong captions.
    - `eps`: the budget of the attack in [0,1] units, written `15/255`, or `0`.
    - `norm`: what the budget bounds, if not each pixel: `rms` is the root mean square over all of them.
    - `concept`, `target`, `poisons`, `seed`: in poisoning, which concept is poisoned towards which target, with how many
      poisons.
    - `style`, `seed`: in mimicry, which style is learnt.
    - `run`, `step`, `images`, `seconds`, `encoder`: in hardening, the encoder's run, and what it had cost by then.
    - `handling`: in scans, what happened to the image between the attack and the scan.
    - `weight`: in scans, what a standard deviation of the score was worth to the attacker; see `scan.evading`.
    - `attacks`: in the row of a worst case, from how many attacks each edit was chosen.
    - `of`, `made_on`, `steps`, `restarts`: in editing, of which attack a row is a variant; see `bench.cells`. In
      reconstruction `of` alone. In poisoning `of` and `steps` are of Nightshade with more steps.
    - `compared`: in the floor of editing, which edits of clean photographs are compared.

    These are the measures.

    - `psnr` (in dB), `ssim`, `distance` (between features): means over pairs of images.
    - `shift`: the mean shift of latents, relative to the norm of the original ones.
    - `kid`, `frechet_pca`, `frechet`: distances between two sets of images. `frechet_pca` is the Fréchet distance in the 32
      directions of `metrics.projection`, and is there for networks that have such directions.
    - `clip_i`, `clip_t`: mean cosines of CLIP embeddings, of image with image and of image with prompt.
    - `target`, `concept`, `neither`: the share of images, generated for the concept, that the judge calls the target, the
      concept or something else. `others` is the share of images of other concepts that it calls what they were generated for.
    - `in_style`, `photograph`, `probability`: in mimicry, the share of generated images that the judge of styles calls the
      style, or a photograph, and the mean probability that it gives the style.
    - `fell`: the mean share by which Nightshade's objective still fell in the last quarter of its steps.
    - `seconds`: the time that a fine-tuning took.
    - `auroc`, `found`: how well a scan tells attacked images from clean ones, and the share that it detects. `unlike` is the
      share that it calls unlike the clean images, `score` the mean score.
    - `kept`: the mean share that is left of the shift of latents of an attack that does not know the scan.
    """

    condition: Condition
    access: Access
    defence: str
    n: int
    measures: dict[str, Estimate]
    doubts: list[str] = field(default_factory=list)


def access_of(made_on: str, defence: str) -> Access:
    """What the maker of the images knew of the VAE that is judged.

    `made_on` is the VAE that the images were made on: `original`, `hardened`, or blank for no VAE. The answer is

    - `none` for images that were made without a VAE: clean ones, noise, wrong captions;
    - `white-box` if the images were made on the VAE that is judged;
    - `transfer` otherwise, and so for purifiers; see `Cell.access` for attacks that are made through them.
    """
    if not made_on:
        return "none"
    return "white-box" if VAE_OF.get(defence) == made_on else "transfer"


def as_data(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as plain data, as a JSON file holds them."""
    return [asdict(row) for row in rows]


def read_rows(data: list[dict[str, Any]]) -> list[Row]:
    """The rows in plain data, the inverse of `as_data`.

    Raises InputError if the data are no rows of this version.
    """
    try:
        return [Row(**{**row, "measures": read_measures(row["measures"])}) for row in data]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"these are not rows that this version writes ({error!r}); run the benchmark again") from error


def read_measures(data: dict[str, dict[str, Any]]) -> dict[str, Estimate]:
    """The estimates of a row, by name, from plain data."""
    return {name: Estimate(**found) for name, found in data.items()}
