"""The hardening benchmark: a row an encoder and attack, over what the run had cost, and what one run saves beside another."""

from __future__ import annotations

import dataclasses
import json

import pytest

from conftest import small_kl
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.bench import reconstruction as bench
from srlvae.bench.hardening import PROTOCOL, hardening
from srlvae.bench.photographs import load_photographs
from srlvae.errors import InputError
from srlvae.models.encoders import write_encoder
from srlvae.models.vae import VAE
from srlvae.report.hardening import curves, hardening_table, shares, shares_table
from srlvae.report.page import write_report
from srlvae.rng import generators
from test_bench import PooledFeatures, folder  # noqa: F401

SMALL = dataclasses.replace(PROTOCOL, steps=2, images=4, clean_images=4, size=32, features=("efficientnet-lite1",))


class Named(PooledFeatures):
    name = "efficientnet-lite1"


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setattr(bench, "load_features", lambda name: Named())


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
    found = {(row["run"], row.get("step"), row["attack"], row["setting"]) for row in result["rows"]}
    attacks = {("none", "any"), *((a, s) for a in SMALL.attacks for s in ("transfer", "white-box"))}
    wanted = {(run, step, *attack) for run in ("one", "two") for step in (1, 2) for attack in attacks}
    wanted |= {("original", None, "none", "any"), *(("original", None, a, "white-box") for a in SMALL.attacks)}
    assert found == wanted and len(result["rows"]) == len(wanted)
    assert json.loads((tmp_path / "out" / "hardening.json").read_text()) == json.loads(json.dumps(result))
    x, _ = load_photographs(folder, 4, 32, SMALL.seed)
    vaes, eps = {"transfer": small_kl(), "white-box": scaled(1.4)}, 15 / 255
    for setting, made_on in vaes.items():
        draws = generators(SMALL.seed, range(4))
        attacked = ATTACKS["latent"].run(x, vae=made_on, ball=Ball.crossed(eps, 2), generators=draws)
        z0 = small_kl().mean(x)
        expected = ((scaled(1.4).mean(attacked) - z0).flatten(1).norm(dim=1) / z0.flatten(1).norm(dim=1)).mean().item()
        (row,) = [
            r for r in result["rows"] if (r["run"], r.get("step"), r["attack"], r["setting"]) == ("two", 2, "latent", setting)
        ]
        # The same operations in the same batches.
        assert row["shift"] == pytest.approx(expected, rel=1e-5) and row["seconds"] == 240.0


def test_what_is_done_is_kept_and_another_run_may_join(runs, folder, tmp_path, monkeypatch):  # noqa: F811
    first = hardening(small_kl(), runs[:1], folder, tmp_path / "out", SMALL)
    made = []
    judge = bench.Judge.row
    monkeypatch.setattr(bench.Judge, "row", lambda self, cell, name, *rest: made.append(name) or judge(self, cell, name, *rest))
    both = hardening(small_kl(), runs, folder, tmp_path / "out", SMALL)
    assert both["rows"][: len(first["rows"])] == json.loads(json.dumps(first["rows"])) and len(made) == 2 * 7
    with pytest.raises(InputError, match="was begun with other settings: protocol.steps was 2, is 3"):
        hardening(small_kl(), runs, folder, tmp_path / "out", dataclasses.replace(SMALL, steps=3))


def test_a_run_without_encoders_and_one_of_another_vae_are_refused(runs, folder, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has kept no encoders on its way; run: srlvae harden"):
        hardening(small_kl(), [tmp_path / "empty"], folder, tmp_path / "out", SMALL)
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
    assert shares_table({"rows": [row for row in result["rows"] if row["run"] != "two"]}) is None


def test_the_share_of_the_cost_is_where_the_goal_is_first_reached():
    def row(run, seconds, shift, psnr):
        same = {"run": run, "step": 1, "seconds": seconds, "shift": shift, "psnr": psnr}
        same |= {"efficientnet-lite1_distance": 1.0, "efficientnet-lite1_distance_interval": [1, 1]}
        same |= {"shift_interval": [0, 1], "psnr_interval": [0, 1]}
        pairs = [("none", "any")] + [(a, s) for a in SMALL.attacks for s in ("transfer", "white-box")]
        return [same | {"attack": a, "setting": s} for a, s in pairs]

    rows = [*row("srl", 10, 0.9, 15.0), *row("srl", 20, 0.4, 16.0), *row("srl", 30, 0.3, 17.0), *row("paper", 100, 0.5, 18.0)]
    found = shares({"rows": rows}, "srl", "paper")
    assert found["pushed away, transfer"] == 0.2 and found["reconstruction dB, white-box"] is None
    header, lines = shares_table({"rows": rows})
    assert lines == [["paper", *("0.20" if "dB" not in label else "never" for label in header[1:])]]
    assert not any(label.startswith("clean") for label in found)
