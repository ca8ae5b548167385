"""The one row: what an attacker knew, how it is written and read back, and what is worked out from rows in one place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from srlvae.bench.cells import Cell
from srlvae.bench.rows import Estimate, Row, access_of, as_data, read_rows
from srlvae.config import budget, fraction
from srlvae.errors import InputError
from srlvae.metrics.roc import shares_below
from srlvae.metrics.shares import wilson_interval
from srlvae.report.numbers import counted, format_estimate, format_share
from srlvae.report.rows import (
    NO_ATTACK,
    attack_label,
    budgets,
    cost_cells,
    factor,
    find_pair,
    find_row,
    find_rows,
    format_pair,
    made_on,
    main_budget,
    share_left,
)

RESULTS = Path(__file__).parents[1] / "results"
BENCHMARKS = ("reconstruction", "editing", "poisoning", "scan")


def row(attack: str, eps: str, on: str, defence: str, value: float | None) -> Row:
    measures = {"frechet": Estimate(value, None, None, 4)}
    return Row({"attack": attack, "eps": eps}, access_of(on, defence), defence, 4, measures)


ROWS = [
    row("none", "0", "", "none", 0.0),
    row("none", "0", "", "hardened", 5.0),
    row("advdm", "15/255", "original", "none", 100.0),
    row("advdm", "15/255", "original", "hardened", 25.0),
    row("advdm", "15/255", "hardened", "hardened", 80.0),
    row("advdm", "4/255", "original", "jpeg", 60.0),
]


@pytest.mark.parametrize(
    ("made", "defence", "access"),
    [
        ("", "none", "none"),
        ("", "hardened", "none"),
        ("", "jpeg", "none"),
        ("original", "none", "white-box"),
        ("hardened", "hardened", "white-box"),
        ("original", "hardened", "transfer"),
        ("original", "jpeg", "transfer"),
        ("original", "scan", "transfer"),
    ],
)
def test_access_is_what_the_attacker_knew(made, defence, access):
    assert access_of(made, defence) == access
    assert made_on(row("advdm", "15/255", made, defence, 1.0)) == made


def test_an_attack_through_a_purifier_knows_it_before_either_vae_and_neither_vae_alone():
    cell = Cell("latent", 15 / 255, "original", through="jpeg")
    access = {defence: cell.access(defence) for defence in ("jpeg", "hardened+jpeg", "none", "hardened", "hardened+resize")}
    assert list(access.values()) == ["white-box", "white-box", "transfer", "transfer", "transfer"]


def test_rows_come_back_as_they_were_written():
    rows = [*ROWS, Row({"attack": "none", "eps": "0", "seed": 1, "seconds": 0.5}, "none", "none", 3, {}, ["a doubt"])]
    assert read_rows(json.loads(json.dumps(as_data(rows)))) == rows


@pytest.mark.parametrize("data", [{"attack": "none", "measured": {}}, {**as_data(ROWS)[0], "key": "k"}, {}])
def test_rows_of_another_version_are_an_error(data):
    with pytest.raises(InputError, match="not rows that this version writes"):
        read_rows([data])


@pytest.mark.parametrize(
    "path", [p for b in BENCHMARKS for p in sorted(RESULTS.glob(f"{b}-*.json"))], ids=lambda path: path.stem
)
def test_every_published_result_has_such_rows(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for key in ("rows", "floor", "reconstruction") for row in read_rows(result.get(key, []))]
    assert result["benchmark"] == path.stem.split("-")[0] and rows
    for row in rows:
        assert {"attack", "eps"} <= row.condition.keys() and row.measures
        assert budget(fraction(row.condition["eps"])) == row.condition["eps"]
        assert (row.access == "none") == (row.condition["attack"] in (*NO_ATTACK, "dirty-label"))
        assert all(isinstance(estimate.n, int) for estimate in row.measures.values())


@pytest.mark.parametrize("text", ["15/255", "2/255", "0", "10.2/255", "6.375/255"])
def test_a_budget_is_written_as_it_is_read(text):
    assert budget(fraction(text)) == text


def test_rows_are_found_by_what_they_say():
    assert find_rows(ROWS, attack="advdm", access="white-box") == [ROWS[2], ROWS[4]]
    assert find_row(ROWS, defence="jpeg") == ROWS[5] and find_row(ROWS, defence="impress") is None
    with pytest.raises(ValueError, match="2 rows have"):
        find_row(ROWS, attack="none")
    assert budgets(ROWS) == ["4/255", "15/255"] and main_budget(ROWS) == "15/255" and main_budget(ROWS[5:]) == "4/255"


def test_a_pair_is_both_vaes_under_the_same_images_or_each_under_its_own():
    assert find_pair(ROWS, attack="advdm", eps="15/255") == (ROWS[2], ROWS[3])
    assert find_pair(ROWS, "white-box", attack="advdm", eps="15/255") == (ROWS[2], ROWS[4])
    assert find_pair(ROWS, attack="none") == find_pair(ROWS, "white-box", attack="none") == (ROWS[0], ROWS[1])
    assert find_pair(ROWS, attack="advdm", eps="4/255") is None


def test_order_means_nothing():
    for rows in (ROWS, ROWS[::-1]):
        assert find_pair(rows, attack="advdm", eps="15/255") == (ROWS[2], ROWS[3]) and main_budget(rows) == "15/255"


def test_a_factor_is_before_over_after():
    assert factor(ROWS[2], ROWS[3], "frechet") == 4 and share_left(ROWS[2], ROWS[3], "frechet") == 0.25
    with pytest.raises(ValueError, match="infinite on all images"):
        factor(row("none", "0", "", "none", None), ROWS[3], "frechet")


@pytest.mark.parametrize(
    ("estimate", "spec", "text"),
    [
        (Estimate(443.6, 400.0, 480.5, 64), ".0f", "444 [400, 480]"),
        (Estimate(1.6e-12, -1e-13, 2.0, 64), ".1f", "0.0 [0.0, 2.0]"),
        (Estimate(-1.6e-12, None, None, 64), ".3f", "0.000"),
        (Estimate(-2.04, None, None, 64), ".1f", "-2.0"),
        (Estimate(0.623, 0.5, 0.7, 24), ".0%", "62% [50%, 70%]"),
        (Estimate(None, None, None, 0), ".2f", "equal"),
    ],
)
def test_an_estimate_is_shown_with_its_interval_and_no_minus_before_zero(estimate, spec, text):
    assert format_estimate(estimate, spec) == text
    assert format_estimate(estimate, spec, interval=False) == text.split(" [")[0]


def test_pairs_and_shares_in_words():
    assert format_pair((ROWS[2], ROWS[3]), "frechet", ".0f") == "100 → 25" and format_pair(None, "frechet", ".0f") == ""
    assert format_share(Estimate(0.617, 0.5, 0.7, 9)) == "62 % [50, 70]"
    assert format_share(Estimate(0.617, 0.5, 0.7, 9), interval=False) == format_share(Estimate(0.617, None, None, 9)) == "62 %"


def test_a_share_of_few_images_is_never_certain():
    low, high = wilson_interval(1.0, 32)
    found = counted(Estimate(1.0, 1.0, 1.0, 32))
    assert (found.low, found.high) == (low, high) and low == pytest.approx(32 / (32 + 1.959964**2)) and high == 1
    assert format_share(found) == "100 % [89, 100]"


def test_the_norm_of_a_budget_that_bounds_no_pixel_stands_with_the_attack():
    cell = Cell("dct-shield", 15 / 255, "original")
    assert cell.condition() == {"attack": "dct-shield", "eps": "15/255", "norm": "rms"}
    assert attack_label(Row(cell.condition(), "transfer", "none", 2, {})) == "dct-shield (rms)"
    assert attack_label(row("advdm", "15/255", "original", "none", 1.0)) == "advdm"


def test_costs_are_blank_before_they_are_measured():
    costs = {"purifiers": {"jpeg": {"seconds": 0.00098, "memory": 2e6, "passes": {"encoder": 1.0, "unet": 0.0}}}}
    costs |= {"encoder": {"original": 0.01, "hardened": 0.0101, "ratio": 1.01}}
    assert cost_cells(costs, "jpeg") == ["0.00098", "2 MB", "1 encoder"] and cost_cells(costs, "resize") == [""] * 3
    assert cost_cells(costs, "hardened") == ["0 (encoder: × 1.01)", "0", "0"] and cost_cells({}, "hardened") == ["0"] * 3
    assert cost_cells(costs, "none") == ["0"] * 3


def test_the_mean_share_below_is_the_area_under_the_curve():
    positive, negative = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])
    assert shares_below(positive, negative).tolist() == [0.5, 0.75, 1.0]
    # Swapped, what is above becomes what is below.
    assert shares_below(positive, negative).mean() == 1 - shares_below(negative, positive).mean() == 0.75


def test_the_main_budget_is_the_paper_s_or_else_the_largest():
    low, high, papers = (row("advdm", eps, "original", "none", 1.0) for eps in ("4/255", "16/255", "15/255"))
    assert main_budget([high, papers, low]) == "15/255" and main_budget([low, high]) == main_budget([high, low]) == "16/255"
