"""The reconstruction benchmark: every cell once, equal numbers for equal VAEs, and runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_kl
from small import RandomFeatures
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.bench import reconstruction as bench
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import RECONSTRUCTION, Cell, ReconstructionProtocol
from srlvae.bench.reconstruction import cells, judged, reconstruction
from srlvae.errors import InputError
from srlvae.images import read_image, read_square
from srlvae.metrics.pairwise import psnr, ssim
from srlvae.models.vae import VAE
from srlvae.rng import generators

# Batches of 3 do not divide 5 images.
PROTOCOL = ReconstructionProtocol(eps=(4, 8), steps=2, images=5, clean_images=5, size=32, batch_size=3, features=("random",))
MEASURES = ("psnr", "ssim", "shift", "random_distance")


class PooledFeatures(RandomFeatures):
    """The random network with pooled vectors of 14 numbers."""

    def pooled(self, x):
        return torch.cat([column.mean((2, 3)) for column in self.columns(x)], dim=1)


@pytest.fixture(autouse=True)
def networks(monkeypatch) -> list[str]:
    """The names of the networks that the benchmark loads; every one is a small one."""
    loaded: list[str] = []

    def load(name):
        loaded.append(name)
        return PooledFeatures()

    monkeypatch.setattr(bench, "load_features", load)
    return loaded


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "photographs").mkdir()
    draws = np.random.default_rng(0)
    for i in range(7):
        levels = draws.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(levels).resize((48, 40)).save(tmp_path / "photographs" / f"{i}.png")
    return tmp_path / "photographs"


@pytest.fixture
def hardened() -> VAE:
    """Another VAE than the original, in its encoder."""
    vae = small_kl()
    vae.model.encoder.conv_in.weight.mul_(1.2)
    return vae


def run(original, hardened, folder: Path, out: str = "out", protocol=PROTOCOL, **options) -> dict:
    return reconstruction(original, hardened, folder, folder.parent / out, protocol, **options)


def photographs(folder: Path, protocol=PROTOCOL):
    return load_photographs(folder, max(protocol.images, protocol.clean_images), protocol.size, protocol.seed)


def numbers(row: dict) -> dict:
    """What was measured, without what it was measured on."""
    return {key: value for key, value in row.items() if key not in ("vae", "setting", "made_on")}


def rows_of(result: dict, **wanted) -> list[dict]:
    return [row for row in result["rows"] if wanted.items() <= row.items()]


# --- the plan


def test_the_plan_has_every_attack_at_every_budget_on_both_vaes():
    plan = cells(PROTOCOL)
    assert len(plan) == len(set(plan)) == 1 + 2 + 3 * 2 * 2
    assert {cell.attack for cell in plan} == {"none", "noise", *PROTOCOL.attacks}
    assert {cell.eps for cell in plan if cell.attack != "none"} == {4, 8}


def test_attacks_made_on_the_original_judge_the_hardened_vae_in_transfer():
    assert judged(Cell("latent", 8, "original")) == [("original", "white-box"), ("hardened", "transfer")]
    assert judged(Cell("latent", 8, "hardened")) == [("hardened", "white-box")]
    assert [vae for vae, _ in judged(Cell("noise", 8, ""))] == ["original", "hardened"]


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_a_named_protocol_has_the_paper_s_15_and_judges_by_two_networks(name):
    assert 15 in RECONSTRUCTION[name].eps and len(RECONSTRUCTION[name].features) == 2


# --- the rows


def test_every_cell_has_its_rows_with_all_measures(vae, hardened, folder, networks):
    result = run(vae, hardened, folder)
    found = [(row["attack"], row["eps"], row["made_on"], row["vae"], row["setting"]) for row in result["rows"]]
    wanted = [(c.attack, c.eps, c.made_on, *pair) for c in cells(PROTOCOL) for pair in judged(c)]
    assert found == wanted and networks == ["random"]
    for row in result["rows"]:
        assert row["n"] == 5 and np.isfinite([row["random_frechet"], row["random_kid"]]).all()
        for measure in MEASURES:
            low, high = row[f"{measure}_interval"]
            # The mean of five equal values may be rounded in float32.
            assert low - 1e-6 <= row[measure] <= high + 1e-6


def test_what_is_written_is_what_is_returned(vae, hardened, folder):
    result = run(vae, hardened, folder)
    written = json.loads((folder.parent / "out" / "reconstruction.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(result))
    assert (written["original"], written["hardened"]) == (vae.fingerprint(), hardened.fingerprint())
    assert written["protocol"]["eps"] == [4, 8] and len(written["images"]) == 5


def test_the_clean_row_takes_more_photographs_than_are_attacked(vae, hardened, folder):
    few, many = run(vae, hardened, folder), run(vae, hardened, folder, "many", dataclasses.replace(PROTOCOL, clean_images=7))
    assert len(many["images"]) == 7 and many["images"][:5] == few["images"]
    assert {row["n"] for row in rows_of(many, attack="none")} == {7}
    for row in rows_of(many, attack="latent"):
        assert row in few["rows"] and row["n"] == 5


def test_the_picture_grid_has_a_row_a_photograph_and_six_columns(vae, hardened, folder):
    run(vae, hardened, folder)
    _, height, width = read_image(folder.parent / "out" / "grid.png").shape
    # Cells of 32 pixels with 4 on every side, under captions of twice 9 pixels.
    assert (width, height) == (6 * 40, 5 * 40 + 18)


def test_the_clean_row_is_the_reconstruction_of_the_clean_images(vae, hardened, folder):
    result = run(vae, hardened, folder)
    x, _ = photographs(folder)
    for name, model in (("original", vae), ("hardened", hardened)):
        (row,) = rows_of(result, attack="none", vae=name)
        y = model.reconstruct(x)
        # The same float32 sums in batches of another size.
        assert row["psnr"] == pytest.approx(psnr(y, x).mean().item(), rel=1e-4)
        assert row["ssim"] == pytest.approx(ssim(y, x).mean().item(), rel=1e-3, abs=1e-5)
        moved, there = model.mean(x), vae.mean(x)
        expected = ((moved - there).flatten(1).norm(dim=1) / there.flatten(1).norm(dim=1)).mean().item()
        assert row["shift"] == pytest.approx(expected, rel=1e-4) and (row["shift"] == 0) == (name == "original")


@pytest.mark.parametrize("made_on", ["original", "hardened"])
def test_a_cell_is_the_attack_on_its_vae_with_one_generator_an_image(made_on, vae, hardened, folder):
    vaes, (x, _) = {"original": vae, "hardened": hardened}, photographs(folder)
    eps, draws = 8 / 255, generators(PROTOCOL.seed, range(len(x)))
    whole = ATTACKS["latent"].run(x, vae=vaes[made_on], ball=Ball.crossed(eps, 2), generators=draws)
    attacked = bench.Judge(vaes, x, PROTOCOL).attack(Cell("latent", 8, made_on))
    # Other batch sizes: a rounding of the gradient may flip the sign of a few pixels.
    assert (attacked != whole).float().mean() < 0.01


def test_an_attack_and_a_larger_budget_move_latents_more_than_noise(vae, hardened, folder):
    result = run(vae, hardened, folder)

    def shift(attack: str, eps: int) -> float:
        return rows_of(result, attack=attack, eps=eps, vae="original")[0]["shift"]

    assert 0 < shift("noise", 4) < shift("noise", 8) < shift("latent", 8)
    assert shift("latent", 4) < shift("latent", 8)


def test_equal_vaes_have_equal_numbers_white_box_and_in_transfer(vae, folder):
    result = run(vae, small_kl(), folder)
    for attack, eps in {(cell.attack, cell.eps) for cell in cells(PROTOCOL)}:
        first, *others = [numbers(row) for row in rows_of(result, attack=attack, eps=eps)]
        # The same operations on the same numbers: bit by bit.
        assert len(others) == (1 if attack in ("none", "noise") else 2) and all(other == first for other in others)


def test_the_rows_of_the_original_do_not_depend_on_the_hardened_vae(vae, hardened, folder):
    one, other = run(vae, small_kl(), folder, "one"), run(vae, hardened, folder, "other")
    assert rows_of(one, vae="original") == rows_of(other, vae="original")
    assert rows_of(one, vae="hardened", setting="white-box") != rows_of(other, vae="hardened", setting="white-box")


def test_the_vaes_and_the_global_generator_are_left_as_found(vae, hardened, folder):
    state, before = torch.get_rng_state(), (vae.fingerprint(), hardened.fingerprint())
    hardened.model.train()
    run(vae, hardened, folder)
    assert torch.equal(state, torch.get_rng_state()) and before == (vae.fingerprint(), hardened.fingerprint())
    assert hardened.model.training and not vae.model.training
    assert all(p.grad is None for model in (vae, hardened) for p in model.model.parameters())


# --- interrupted and repeated


class Stopped(Exception):
    pass


def stop_after(count: int):
    def done(cell, number, total):
        if number == count:
            raise Stopped

    return done


def test_an_interrupted_run_goes_on_and_ends_with_the_same_rows(vae, hardened, folder, monkeypatch):
    whole = run(vae, hardened, folder, "whole")
    with pytest.raises(Stopped):
        run(vae, hardened, folder, done=stop_after(3))
    kept = json.loads((folder.parent / "out" / "reconstruction.json").read_text(encoding="utf-8"))["rows"]
    assert kept == json.loads(json.dumps(whole["rows"][:6])) and not (folder.parent / "out" / "grid.png").exists()
    made: list[Cell] = []
    attack = bench.Judge.attack
    monkeypatch.setattr(bench.Judge, "attack", lambda judge, cell: made.append(cell) or attack(judge, cell))
    resumed = run(vae, hardened, folder)
    assert made == cells(PROTOCOL)[3:]
    # Through JSON, as the first rows of the resumed run were: intervals are lists there.
    assert json.loads(json.dumps(resumed["rows"])) == json.loads(json.dumps(whole["rows"]))


def test_done_is_told_of_every_cell_made_or_found(vae, hardened, folder):
    for _ in range(2):
        told: list[tuple] = []
        run(vae, hardened, folder, done=lambda *seen, told=told: told.append(seen))
        assert told == [(cell, i, 15) for i, cell in enumerate(cells(PROTOCOL), 1)]


@pytest.mark.parametrize("other", ["original", "hardened", "protocol", "images"])
def test_rows_of_another_run_are_refused_and_kept(other, vae, hardened, folder):
    with pytest.raises(Stopped):
        run(vae, hardened, folder, done=stop_after(1))
    path = folder.parent / "out" / "reconstruction.json"
    before, vaes, protocol = path.read_bytes(), {"original": vae, "hardened": hardened}, PROTOCOL
    if other == "protocol":
        protocol = dataclasses.replace(PROTOCOL, steps=3)
    elif other == "images":
        (folder / "0.png").rename(folder / "9.png")
    else:
        vaes[other].model.encoder.conv_in.weight.mul_(1.5)
    with pytest.raises(InputError, match="was begun with other settings"):
        run(vae, hardened, folder, protocol=protocol)
    assert path.read_bytes() == before


# --- the photographs


def test_photographs_are_centre_squares_in_a_shuffle_by_the_seed(folder):
    (x, names), (again, _) = photographs(folder), photographs(folder)
    assert x.shape == (5, 3, 32, 32) and torch.equal(x, again) and len(set(names)) == 5
    assert all(torch.equal(image, read_square(folder / name, 32)) for image, name in zip(x, names, strict=True))
    assert photographs(folder, dataclasses.replace(PROTOCOL, seed=1))[1] != names


def test_broken_and_small_photographs_are_passed_over(folder):
    (folder / "0.png").write_bytes(b"broken")
    Image.new("RGB", (100, 15)).save(folder / "1.png")
    _, names = photographs(folder)
    assert sorted(names) == [f"{i}.png" for i in range(2, 7)]


def test_fewer_photographs_than_asked_for_are_all_taken(folder):
    assert len(photographs(folder, dataclasses.replace(PROTOCOL, images=64))[1]) == 7


def test_a_single_photograph_is_refused(folder):
    for i in range(1, 7):
        (folder / f"{i}.png").unlink()
    with pytest.raises(InputError, match="at least 2 readable images of 16 pixels or more, found 1"):
        photographs(folder)
