"""The hardening benchmark: a row an encoder and attack, over what the run had cost, and what one run saves beside another."""

from __future__ import annotations

import dataclasses
import json

import pytest

from conftest import small_kl
from srlvae.attacks import ATTACKS
from srlvae.bench import distances
from srlvae.bench.attacked import photograph_set
from srlvae.bench.hardening import hardening
from srlvae.bench.load_protocol import reconstruction_protocol
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import Estimate, Row, as_data, read_rows
from srlvae.errors import InputError
from srlvae.images import to_levels
from srlvae.models.encoders import write_encoder
from srlvae.models.vae import VAE
from srlvae.report.hardening import cost_shares, cost_shares_table, curves, hardening_table
from srlvae.report.page import write_report
from srlvae.report.rows import find_row, find_rows, measured_value
from srlvae.rng import named_generator
from test_bench import folder  # noqa: F401
from twins import PooledFeatures

PROTOCOL = reconstruction_protocol("full", "hardening")
SMALL = dataclasses.replace(PROTOCOL, steps=2, images=4, clean_images=4, size=32)


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setattr(distances, "load_features", lambda name: PooledFeatures())


def scaled(factor: float) -> VAE:
    vae = small_kl()
    vae.model.encoder.conv_in.weight.mul_(factor)
    return vae


@pytest.fixture
def runs(tmp_path):
    """Two runs; the second one goes further away at each step, and is twice as dear."""
    for name, pace in (("one", 1), ("two", 2)):
        for step in (1, 2):
            facts = {"step": step, "images": 8 * step, "seconds": 60.0 * step * pace}
            path = tmp_path / name / "snapshots" / f"step-{step:06d}.safetensors"
            write_encoder(path, scaled(1 + 0.1 * step * pace), small_kl(), facts)
    return [tmp_path / "one", tmp_path / "two"]


def test_every_encoder_has_its_rows_and_they_are_what_the_attack_on_it_does(runs, folder, tmp_path):  # noqa: F811
    result = hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)
    rows = read_rows(result["rows"])
    found = {(row.condition.get("run"), row.condition.get("step"), row.condition["attack"], row.access) for row in rows}
    attacks = {("none", "none"), *((a, access) for a in SMALL.attacks for access in ("transfer", "white-box"))}
    wanted = {(run, step, *attack) for run in ("one", "two") for step in (1, 2) for attack in attacks}
    wanted |= {(None, None, "none", "none"), *((None, None, attack, "white-box") for attack in SMALL.attacks)}
    assert found == wanted and len(rows) == len(wanted)
    assert {row.defence for row in rows if "run" not in row.condition} == {"none"}
    assert json.loads((tmp_path / "out" / "hardening.json").read_text()) == json.loads(json.dumps(result))


def test_costs_that_are_more_than_the_main_process_are_a_doubt(runs, folder, tmp_path):  # noqa: F811
    assert hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)["doubts"] == []
    made_by = {"device": "cuda", "processes": 2, "readers": 4}
    facts = {"step": 3, "images": 24, "seconds": 1.0, "made_by": made_by}
    write_encoder(runs[1] / "snapshots" / "step-000003.safetensors", scaled(2.0), small_kl(), facts)
    (doubt,) = hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)["doubts"]
    assert doubt.startswith("two was made on cuda by 2 processes and 4 readers: its seconds are")
    assert "two was made on cuda" in write_report([tmp_path / "out"]).read_text(encoding="utf-8")


def test_few_photographs_and_weak_attacks_are_doubts(runs, folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("srlvae.bench.reconstructed.transfer_doubts", lambda transfer, own: ["this one is too weak"])
    few = dataclasses.replace(SMALL, images=9, clean_images=9)
    assert hardening(small_kl(), runs, folder, tmp_path / "out", few)["doubts"] == [
        "numbers of 7 photographs, where the protocol has 9"
    ]
    page = write_report([tmp_path / "out"]).read_text(encoding="utf-8")
    assert "this one is too weak" in page and "where the protocol has 9" in page


def test_runs_are_compared_under_one_budget(tmp_path):
    (tmp_path / "hard.toml").write_text('attacks = ["latent"]\neps = ["8/255", "15/255"]\n')
    with pytest.raises(InputError, match="compared under one"):
        reconstruction_protocol(str(tmp_path / "hard.toml"), "hardening")
    assert reconstruction_protocol(str(tmp_path / "hard.toml")).eps == (8 / 255, 15 / 255)


@pytest.mark.parametrize(("access", "pace"), [("transfer", 1.0), ("white-box", 1.4)])
def test_a_row_is_what_the_attack_does_to_the_encoder_of_its_step(access, pace, runs, folder, tmp_path):  # noqa: F811
    rows = read_rows(hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)["rows"])
    x, _ = load_photographs(folder, 4, 32, SMALL.seed)
    ball = ATTACKS["latent"].default.ball.resized(15 / 255, 2)
    draws = [named_generator(SMALL.seed, key) for key in photograph_set(x).keys]
    attacked = to_levels(ATTACKS["latent"].run(x, vae=scaled(pace), ball=ball, generators=draws)).float() / 255
    z0 = small_kl().mean(x)
    expected = ((scaled(1.4).mean(attacked) - z0).flatten(1).norm(dim=1) / z0.flatten(1).norm(dim=1)).mean().item()
    row = find_row(rows, run="two", step=2, attack="latent", access=access)
    # The same operations in the same batches.
    assert measured_value(row, "shift") == pytest.approx(expected, rel=1e-5) and row.condition["seconds"] == 240.0


def records(out) -> set:
    """What is kept of measures; beside attacked images there are notes."""
    return {file for file in (out / "cache").rglob("*.json") if not file.with_suffix(".png").exists()}


def test_what_is_done_is_kept_and_another_run_may_join(runs, folder, tmp_path):  # noqa: F811
    first = hardening(small_kl(), runs[:1], folder, tmp_path / "out", SMALL)
    before = records(tmp_path / "out")
    both = hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)
    assert both["rows"][: len(first["rows"])] == first["rows"]
    # The first encoder of the second run is the last one of the first.
    joined = records(tmp_path / "out")
    assert before < joined and len(joined - before) == 7
    hardening(small_kl(), runs, folder, tmp_path / "out", dataclasses.replace(SMALL, steps=3))
    # All rows but those of clean images.
    assert len(records(tmp_path / "out") - joined) == 3 + 3 * 6


def test_a_run_without_encoders_and_one_of_another_vae_are_refused(runs, folder, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has kept no encoders; run: srlvae harden"):
        hardening(small_kl(), [tmp_path / "empty"], folder, tmp_path / "out", SMALL)
    with pytest.raises(InputError, match="two runs are called empty"):
        hardening(small_kl(), [tmp_path / "empty", tmp_path / "other" / "empty"], folder, tmp_path / "out", SMALL)
    with pytest.raises(InputError, match="another base"):
        hardening(scaled(1.5), runs, folder, tmp_path / "other", SMALL)


def test_table_and_curves_show_every_run(runs, folder, tmp_path):  # noqa: F811
    result = hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)
    header, lines = hardening_table(result)
    assert [line[0] for line in lines] == ["original", "one", "two"] and all(len(line) == len(header) for line in lines)
    assert lines[2][1:3] == ["2", "240"]
    assert [seconds for seconds, *_ in curves(result)["clean shift"]["two"]] == [120.0, 240.0]
    page = write_report([tmp_path / "out"]).read_text(encoding="utf-8")
    svg, table = ((tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("curves.svg", "table.md"))
    assert svg in page and all(name in svg for name in ("one", "two", "clean shift"))
    assert all(f"| {name} |" in table for name in ("original", "one", "two"))
    assert cost_shares_table({"rows": [row for row in result["rows"] if row["condition"].get("run") != "two"]}) is None


def test_the_share_of_the_cost_is_where_the_goal_is_first_reached():
    def rows(run, seconds, shift, psnr):
        values = {"shift": shift, "psnr": psnr, "distance": 1.0}
        measures = {name: Estimate(number, number, number, 4) for name, number in values.items()}
        about = {"eps": "15/255", "run": run, "step": int(seconds), "seconds": seconds}
        kinds = [("none", "none"), *((attack, access) for attack in SMALL.attacks for access in ("transfer", "white-box"))]
        return [Row({**about, "attack": attack}, access, "hardened", 4, measures) for attack, access in kinds]

    made = [*rows("srl", 10.0, 0.9, 15.0), *rows("srl", 20.0, 0.4, 16.0), *rows("srl", 30.0, 0.3, 17.0)]
    made += rows("paper", 100.0, 0.5, 18.0)
    # Whichever order they come in.
    for order in (made, [*find_rows(made, run="srl")[::-1], *find_rows(made, run="paper")]):
        result = {"rows": as_data(order)}
        found = cost_shares(result, "srl", "paper")
        assert found["pushed away, transfer"] == 0.2 and found["reconstruction dB, white-box"] is None
        header, lines = cost_shares_table(result)
        assert lines == [["paper", *("0.20" if "dB" not in label else "never" for label in header[1:])]]
        assert not any(label.startswith("clean") for label in found)
