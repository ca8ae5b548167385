"""The reconstruction benchmark: every cell once, equal numbers for equal VAEs, and runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_kl, small_tiny
from heard import Heard
from srlvae.attacks import ATTACKS
from srlvae.bench import distances
from srlvae.bench.attacked import photograph_set
from srlvae.bench.cache import Cache
from srlvae.bench.cells import CLEAN, PARTS, Cell
from srlvae.bench.load_protocol import reconstruction_protocol
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import ReconstructionProtocol
from srlvae.bench.reconstructed import Reconstructions
from srlvae.bench.reconstruction import conditions, grid_attack, reconstruction
from srlvae.bench.rows import Row, access_of, read_rows
from srlvae.errors import InputError
from srlvae.images import read_image, read_square, to_levels
from srlvae.metrics.pairwise import psnr, ssim
from srlvae.models.vae import VAE
from srlvae.report.page import write_report
from srlvae.report.rows import find_rows, measured_value
from srlvae.rng import named_generator
from twins import PooledFeatures, hardened_twin

# Batches of 3 do not divide 5 images.
PROTOCOL = ReconstructionProtocol(
    attacks=("reconstruction", "latent", "photoguard-encoder"),
    eps=(4 / 255, 8 / 255),
    steps=2,
    images=5,
    clean_images=5,
    size=32,
    batch_size=3,
    pairs="random",
    sets="random",
)
SHORT = dataclasses.replace(PROTOCOL, attacks=("reconstruction",), eps=(8 / 255,))
MEASURES = ("psnr", "ssim", "shift", "distance")


@pytest.fixture(autouse=True, scope="module")
def loaded() -> Iterator[list[str]]:
    """The names of the networks that benchmarks load; every one is a small one."""
    names: list[str] = []

    def load(name):
        names.append(name)
        return PooledFeatures()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "load_features", load)
        yield names


@pytest.fixture
def networks(loaded) -> list[str]:
    """Those that are loaded in a test."""
    loaded.clear()
    return loaded


def make_photographs(folder: Path) -> Path:
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(7):
        levels = draws.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(levels).resize((48, 40)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_photographs(tmp_path / "photographs")


@pytest.fixture
def hardened() -> VAE:
    """Another VAE than the original, in its encoder."""
    return hardened_twin()


def run(original, hardened, folder: Path, out: str = "out", protocol=PROTOCOL, **options) -> dict:
    return reconstruction(original, hardened, folder, folder.parent / out, protocol, **options)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has ended, of which tests only read."""

    out: Path
    result: dict
    networks: list[str]
    heard: Heard


@pytest.fixture(scope="module")
def whole(tmp_path_factory, loaded) -> Run:
    """The run of PROTOCOL on the two VAEs."""
    folder, heard = make_photographs(tmp_path_factory.mktemp("whole") / "photographs"), Heard(bar="rows")
    loaded.clear()
    result = run(small_kl(), hardened_twin(), folder, listener=heard)
    return Run(folder.with_name("out"), result, list(loaded), heard)


@pytest.fixture(scope="module")
def equal(tmp_path_factory) -> dict:
    """The result of PROTOCOL on two equal VAEs."""
    return run(small_kl(), small_kl(), make_photographs(tmp_path_factory.mktemp("equal") / "photographs"))


def photographs(folder: Path, protocol=PROTOCOL):
    return load_photographs(folder, max(protocol.images, protocol.clean_images), protocol.size, protocol.seed)


def rows_of(result: dict, **wanted) -> list[Row]:
    return find_rows(read_rows(result["rows"]), **wanted)


def attacker(vae, hardened, folder: Path, protocol=PROTOCOL) -> Reconstructions:
    return Reconstructions(vae, photographs(folder)[0], protocol, Cache(folder.parent / "attacks", 3))


# --- the plan


def test_the_plan_has_every_attack_at_every_budget_on_both_vaes():
    plan = conditions(PROTOCOL)
    cells = {cell for cell, _ in plan}
    # Of PhotoGuard alone, which pulls latents to a target, the parts are measured, too.
    assert len(plan) == len(set(plan)) == 2 * (1 + 2 * 2) + 3 * 2 * 3 + 2 * 2 * len(PARTS)
    assert {cell.attack for cell in cells if cell.part} == {"photoguard-encoder"}
    assert {cell.made_on for cell in cells if cell.part} == {"original"} and {cell.part for cell in cells} == {"", *PARTS}
    assert {cell.attack for cell in cells} == {"none", "uniform-noise", "random-signs", *PROTOCOL.attacks}
    assert {cell.eps for cell in cells if cell.attack != "none"} == {4 / 255, 8 / 255}


def test_attacks_made_on_the_original_judge_the_hardened_vae_in_transfer():
    access = {(cell, defence): access_of(cell.made_on, defence) for cell, defence in conditions(PROTOCOL)}
    own, other = Cell("latent", 8 / 255, "original"), Cell("latent", 8 / 255, "hardened")
    assert access[own, "none"] == "white-box" and access[own, "hardened"] == "transfer"
    assert access[other, "hardened"] == "white-box" and (other, "none") not in access
    noise = Cell("uniform-noise", 8 / 255, "")
    assert access[noise, "none"] == access[noise, "hardened"] == access[CLEAN, "none"] == "none"


@pytest.mark.parametrize(
    ("name", "benchmark"), [("quick", "reconstruction"), ("full", "reconstruction"), ("full", "hardening")]
)
def test_a_named_protocol_has_the_paper_s_15_and_judges_by_a_network_that_nothing_trains_on(name, benchmark):
    protocol = reconstruction_protocol(name, benchmark)
    assert 15 / 255 in protocol.eps and protocol.pairs == protocol.sets == "efficientnet-lite1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eps = [15]", "write 15/255 for 15 grey levels"),
        ('eps = ["0/255"]', "eps is 0"),
        ("eps = []", "eps must not be empty"),
        ('attacks = ["advdm"]', "advdm attacks a whole pipeline"),
        ('attacks = ["jpeg"]', "unknown attack 'jpeg'"),
        ('sets = "vgg"', "unknown feature network 'vgg'"),
        ('features = ["efficientnet-lite1"]', "unknown setting 'features'"),
        ('eps = ["15/255", "15/255"]', "eps has '15/255' twice"),
    ],
)
def test_a_protocol_is_refused_before_anything_runs(line, message, tmp_path):
    lines = {"attacks": 'attacks = ["latent"]', "eps": 'eps = ["15/255"]'} | {line.split(" = ")[0]: line}
    (tmp_path / "own.toml").write_text("\n".join(lines.values()))
    with pytest.raises(InputError, match=message):
        reconstruction_protocol(str(tmp_path / "own.toml"))


# --- the rows


def test_every_cell_has_its_rows_with_all_measures(whole):
    rows = rows_of(whole.result)
    found = [(row.condition, row.access, row.defence) for row in rows]
    wanted = [(cell.condition(), access_of(cell.made_on, defence), defence) for cell, defence in conditions(PROTOCOL)]
    assert found == wanted and whole.networks == ["random"]
    for row in rows:
        assert row.n == 5 and np.isfinite([measured_value(row, "frechet"), measured_value(row, "kid")]).all()
        for measure in MEASURES:
            estimate = row.measures[measure]
            # The mean of five equal values may be rounded in float32.
            assert estimate.low - 1e-6 <= estimate.value <= estimate.high + 1e-6 and estimate.n == 5


def test_what_is_written_is_what_is_returned(vae, hardened, whole):
    written = json.loads((whole.out / "reconstruction.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(whole.result))
    assert (written["original"], written["hardened"]) == (vae.fingerprint(), hardened.fingerprint())
    assert written["protocol"]["eps"] == ["4/255", "8/255"] and len(written["images"]) == 5


def test_the_clean_row_takes_more_photographs_than_are_attacked(vae, hardened, folder, whole):
    few, many = whole.result, run(vae, hardened, folder, "many", dataclasses.replace(PROTOCOL, clean_images=7))
    assert len(many["images"]) == 7 and many["images"][:5] == few["images"]
    assert {row.n for row in rows_of(many, attack="none")} == {7}
    for row in rows_of(many, attack="latent"):
        assert row in rows_of(few) and row.n == 5


def test_the_picture_grid_has_a_row_a_photograph_and_six_columns(whole):
    _, height, width = read_image(whole.out / "grid.png").shape
    # Cells of 32 pixels with 4 on every side, under captions of twice 9 pixels.
    assert (width, height) == (6 * 40, 5 * 40 + 18)


def test_the_clean_row_is_the_reconstruction_of_the_clean_images(vae, hardened, folder, whole):
    x, _ = photographs(folder)
    for name, model in (("none", vae), ("hardened", hardened)):
        (row,) = rows_of(whole.result, attack="none", defence=name)
        y = model.reconstruct(x)
        # The same float32 sums in batches of another size.
        assert measured_value(row, "psnr") == pytest.approx(psnr(y, x).mean().item(), rel=1e-4)
        assert measured_value(row, "ssim") == pytest.approx(ssim(y, x).mean().item(), rel=1e-3, abs=1e-5)
        moved, there = model.mean(x), vae.mean(x)
        expected = ((moved - there).flatten(1).norm(dim=1) / there.flatten(1).norm(dim=1)).mean().item()
        shift = measured_value(row, "shift")
        assert shift == pytest.approx(expected, rel=1e-4) and (shift == 0) == (name == "none")


@pytest.mark.parametrize("made_on", ["original", "hardened"])
def test_a_cell_is_the_attack_on_its_vae_with_one_generator_an_image(made_on, vae, hardened, folder):
    vaes, x = {"original": vae, "hardened": hardened}, photographs(folder)[0]
    ball = ATTACKS["latent"].default.ball.resized(8 / 255, 2)
    draws = [named_generator(PROTOCOL.seed, key) for key in photograph_set(x).keys]
    parts = [ATTACKS["latent"].run(x[i], vae=vaes[made_on], ball=ball, generators=draws[i]) for i in (slice(3), slice(3, 5))]
    attacked = attacker(vae, hardened, folder).attacked(Cell("latent", 8 / 255, made_on), hardened)[0].images
    # The same operations in the same batches: bit by bit.
    assert torch.equal(attacked, to_levels(torch.cat(parts)).float() / 255)


def test_attacked_images_and_noise_are_whole_grey_levels_within_the_budget(vae, hardened, folder):
    bench = attacker(vae, hardened, folder)
    for cell in (Cell("latent", 8 / 255, "original"), Cell("uniform-noise", 8 / 255, "")):
        attacked = bench.attacked(cell, hardened)[0].images
        assert torch.equal(attacked, to_levels(attacked).float() / 255)
        moved = ((attacked - bench.clean.images).abs().max() * 255).round()
        assert 0 < moved <= 8


def test_an_attack_and_a_larger_budget_move_latents_more_than_noise(whole):
    def shift(attack: str, eps: str) -> float:
        return measured_value(rows_of(whole.result, attack=attack, eps=eps, defence="none")[0], "shift")

    assert 0 < shift("uniform-noise", "4/255") < shift("uniform-noise", "8/255") < shift("latent", "8/255")
    assert shift("latent", "4/255") < shift("latent", "8/255")


def test_equal_vaes_have_equal_numbers_white_box_and_in_transfer(equal):
    for attack, eps in {(row.condition["attack"], row.condition["eps"]) for row in rows_of(equal)}:
        first, *others = [row.measures for row in rows_of(equal, attack=attack, eps=eps)]
        # The same operations on the same numbers: bit by bit.
        # Whole attacks alone are made on the hardened VAE, too.
        assert len(others) == (2 if attack in PROTOCOL.attacks else 1) and all(other == first for other in others)


def test_the_rows_of_the_original_do_not_depend_on_the_hardened_vae(equal, whole):
    one, other = equal, whole.result
    assert rows_of(one, defence="none") == rows_of(other, defence="none")
    own = [rows_of(result, defence="hardened", access="white-box") for result in (one, other)]
    assert own[0] != own[1]


def test_transfer_that_hurts_more_than_white_box_is_a_doubt(vae, hardened, folder):
    bench = attacker(vae, hardened, folder, SHORT)
    own, other = (Cell("reconstruction", 8 / 255, made_on) for made_on in ("hardened", "original"))
    for transfer, count in (([0.0] * 5, 0), ([100.0, 100.0, 0.0, 0.0, 0.0], 2)):
        bench.pair_distances[other, hardened.fingerprint()] = transfer
        assert sum("too weak" in doubt for doubt in bench.row(own, "hardened", hardened).doubts) == count


def test_the_vaes_and_the_global_generator_are_left_as_found(vae, hardened, folder):
    state, before = torch.get_rng_state(), (vae.fingerprint(), hardened.fingerprint())
    hardened.model.train()
    run(vae, hardened, folder)
    assert torch.equal(state, torch.get_rng_state()) and before == (vae.fingerprint(), hardened.fingerprint())
    assert hardened.model.training and not vae.model.training
    assert all(p.grad is None for model in (vae, hardened) for p in model.model.parameters())


# --- interrupted and repeated


def test_an_interrupted_run_goes_on_and_ends_with_the_same_rows(vae, hardened, folder, whole):
    rows, resumed = whole.result["rows"], Heard(bar="rows")
    with pytest.raises(RuntimeError, match="power cut"):
        run(vae, hardened, folder, listener=Heard(crash_at=8, bar="rows"))
    kept = json.loads((folder.parent / "out" / "reconstruction.json").read_text(encoding="utf-8"))["rows"]
    assert kept == json.loads(json.dumps(rows[:8])) and not (folder.parent / "out" / "grid.png").exists()
    assert run(vae, hardened, folder, listener=resumed)["rows"] == rows
    # Before, noise within two budgets and one attack on five images each were made.
    assert resumed.images_made == whole.heard.images_made - 3 * 5


def test_a_second_run_measures_nothing(vae, hardened, folder, networks, whole):
    shutil.copytree(whole.out, folder.with_name("out"))
    told = Heard(bar="rows")
    assert run(vae, hardened, folder, listener=told) == whole.result and networks == [] and told.images_made == 0


def test_a_listener_is_told_of_every_row_made_or_found(vae, hardened, folder, whole):
    shutil.copytree(whole.out, folder.with_name("out"))
    again = Heard(bar="rows")
    run(vae, hardened, folder, listener=again)
    for told in (whole.heard, again):
        assert told.notes == [f"{cell}, {defence}" for cell, defence in conditions(PROTOCOL)]
        assert told.bars["rows"] == [(number, 40) for number in range(1, 41)]


@pytest.mark.parametrize("other", ["original", "hardened", "protocol", "images", "judge"])
def test_another_run_takes_over_no_row_that_is_not_its_own(other, vae, hardened, folder):
    # One image at a time: in batches of other neighbours, sums come in another order, and signs of small gradients turn.
    protocol = dataclasses.replace(SHORT, batch_size=1)
    run(vae, hardened, folder, protocol=protocol)
    vaes = {"original": vae, "hardened": hardened}
    if other == "protocol":
        protocol = dataclasses.replace(protocol, steps=3)
    elif other == "images":
        (folder / "0.png").rename(folder / "9.png")
    elif other == "judge":
        protocol = dataclasses.replace(protocol, sets="another")
    else:
        vaes[other].model.encoder.conv_in.weight.mul_(1.5)
    found = run(vaes["original"], vaes["hardened"], folder, protocol=protocol)
    assert found["rows"] == run(vaes["original"], vaes["hardened"], folder, "alone", protocol)["rows"]


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


def test_copies_of_photographs_are_a_doubt(vae, hardened, folder):
    for i in (1, 2):
        shutil.copy(folder / "0.png", folder / f"{i}.png")
    protocol = dataclasses.replace(SHORT, images=7, clean_images=7)
    assert "2 of 7 photographs are copies of others" in run(vae, hardened, folder, protocol=protocol)["doubts"][0]


def test_fewer_clean_photographs_than_attacked_ones_are_taken(vae, hardened, folder):
    result = run(vae, hardened, folder, protocol=dataclasses.replace(SHORT, clean_images=2))
    assert {row.n for row in find_rows(read_rows(result["rows"]), attack="none")} == {2}
    assert {row.n for row in find_rows(read_rows(result["rows"]), attack="reconstruction")} == {5}


def test_an_attack_on_a_posterior_that_is_not_there_is_refused_before_anything_runs(folder):
    tiny = VAE(small_tiny().model)
    with pytest.raises(InputError, match="no posterior for pid to attack"):
        run(tiny, tiny, folder, protocol=dataclasses.replace(SHORT, attacks=("reconstruction", "pid")))
    assert not (folder.parent / "out" / "cache").exists()


def test_a_run_that_was_cut_off_has_a_page_without_the_picture_of_an_earlier_one(vae, hardened, folder):
    run(vae, hardened, folder, protocol=SHORT)
    page = write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert "not finished" not in page and "Attacked: reconstruction." in page
    with pytest.raises(RuntimeError, match="power cut"):
        run(vae, hardened, folder, protocol=PROTOCOL, listener=Heard(crash_at=4, bar="rows"))
    page = write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert "not finished" in page and "Attacked:" not in page


def test_the_picture_grid_is_of_an_attack_of_the_protocol():
    assert [grid_attack(attacks) for attacks in (("latent", "reconstruction"), ("latent",))] == ["reconstruction", "latent"]


def test_a_single_photograph_is_refused(folder):
    for i in range(1, 7):
        (folder / f"{i}.png").unlink()
    with pytest.raises(InputError, match="at least 2 readable images of 16 pixels or more, found 1"):
        photographs(folder)
