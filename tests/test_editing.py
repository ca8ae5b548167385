"""The editing benchmark: every set under every defence once, equal numbers for equal VAEs, and only what is missing is made."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from conftest import small_kl
from pipelines import pixel, sd15
from small import RandomFeatures
from srlvae import provenance
from srlvae.bench import cache, compare
from srlvae.bench import editing as bench
from srlvae.bench.cache import STAGES, Store, beat, key_of, key_of_image, wait_for
from srlvae.bench.compare import Comparison, frechet_interval
from srlvae.bench.editing import CLEAN, editing, plan_of, setting_of
from srlvae.bench.protocol import AttackPlan, Cell, EditingProtocol, PurifierPlan, editing_protocol
from srlvae.bench.purified import Purification
from srlvae.errors import InputError
from srlvae.images import read_image
from srlvae.metrics.clip import Clip
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE

PROTOCOL = EditingProtocol(
    pipeline="sd15",
    hardened="hardened",
    clip="clip",
    prompts=("a photo of a cat", "a photo of a dog"),
    attacks=(
        AttackPlan("photoguard-encoder", (8, 15), steps=2, white_box=True),
        AttackPlan("advdm", (15,), steps=1),
    ),
    purifiers=(PurifierPlan("jpeg", eps=(15,)), PurifierPlan("vae-round-trip", attacks=("advdm",))),
    images=4,
    steps=2,
    guidance=2.0,
    batch_size=3,
    features=("random",),
)


class PooledFeatures(RandomFeatures):
    def pooled(self, x):
        return torch.cat([column.mean((2, 3)) for column in self.columns(x)], dim=1)


class SmallClip(Clip):
    """Colour averages as vectors, and a direction a prompt."""

    def __init__(self):
        self.name = "small"

    def fingerprint(self):
        return "small"

    def images(self, x):
        return F.normalize(F.adaptive_avg_pool2d(x, 2).flatten(1), dim=-1)

    def texts(self, prompts):
        return F.normalize(torch.tensor([[len(p) + k for k in range(12)] for p in prompts], dtype=torch.float32), dim=-1)


@pytest.fixture(scope="module", autouse=True)
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "load_features", lambda name: PooledFeatures())
        patch.setattr(bench, "load_clip", lambda name, device: SmallClip())
        patch.setattr(compare, "DRAWS", 20)
        yield


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return sd15(small_kl())


@pytest.fixture(scope="module")
def hardened() -> VAE:
    vae = small_kl()
    vae.model.encoder.conv_in.weight.mul_(1.2)
    return vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("editing") / "photographs"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(5):
        levels = draws.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(levels).resize((70, 64)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def made() -> list[int]:
    return []


@pytest.fixture(scope="module")
def result(pipeline, hardened, folder, made) -> dict:
    """The protocol, run once."""
    return run(pipeline, hardened, folder, told=made.append)


def run(pipeline, hardened, folder, protocol=PROTOCOL, out="out", **options) -> dict:
    return editing(pipeline, hardened, folder, folder.parent / out, protocol, **options)


# --- the plan


def test_every_set_is_tried_under_every_defence_that_takes_it():
    plan = plan_of(PROTOCOL)
    assert len(plan) == len(set(plan))
    assert {d for cell, d in plan if cell == CLEAN} == {"none", "hardened", "jpeg", "vae-round-trip"}
    assert {d for cell, d in plan if cell == Cell("photoguard-encoder", 8, "original")} == {"none", "hardened"}
    assert {d for cell, d in plan if cell == Cell("photoguard-encoder", 15, "original")} == {"none", "hardened", "jpeg"}
    assert {d for cell, d in plan if cell == Cell("advdm", 15, "original")} == {"none", "hardened", "jpeg", "vae-round-trip"}
    assert {d for cell, d in plan if cell.made_on == "hardened"} == {"hardened"}
    assert Cell("advdm", 15, "hardened") not in {cell for cell, _ in plan}


def test_a_setting_says_on_which_vae_the_attack_was_made():
    made = Cell("advdm", 15, "original")
    assert [setting_of(made, d) for d in ("none", "hardened", "jpeg")] == ["white-box", "transfer", "transfer"]
    assert setting_of(Cell("advdm", 15, "hardened"), "hardened") == "white-box" and setting_of(CLEAN, "none") == "any"


@pytest.mark.parametrize("name", ["quick", "full", "fifteen", "sd15"])
def test_a_named_protocol_has_the_paper_s_budget_for_every_attack(name):
    protocol = editing_protocol(name)
    assert all(15 in plan.eps for plan in protocol.attacks)
    assert plan_of(protocol)


def test_an_unknown_protocol_or_setting_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="'fast'.*fifteen, full, quick, sd15"):
        editing_protocol("fast")
    (tmp_path / "own.toml").write_text('pipeline = "tiny-sd"\nbudget = 3\n')
    with pytest.raises(InputError, match="'budget'"):
        editing_protocol(str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('attacks = [{ name = "jpeg", eps = [15] }]', "unknown attack 'jpeg'"),
        ('attacks = [{ name = "advdm", eps = [8] }, { name = "advdm", eps = [15] }]', "attack 'advdm' is there twice"),
        ('attacks = [{ name = "advdm", eps = [] }]', "advdm: eps must not be empty"),
        ('purifiers = [{ name = "jpg" }]', "unknown purifier 'jpg'"),
        ('purifiers = [{ name = "jpeg" }, { name = "jpeg", settings = { quality = 30 } }]', "'jpeg' is there twice"),
        ('purifiers = [{ name = "jpeg", settings = { strength = 3 } }]', "jpeg has no setting 'strength'; it has quality"),
        ('purifiers = [{ name = "pdm-pure" }]', "pdm-pure needs `source`"),
        ("prompts = []", "prompts must not be empty"),
        ('features = ["vgg"]', "unknown feature network 'vgg'"),
        ("", "setting 'images' is missing"),
    ],
)
def test_a_protocol_is_refused_before_anything_runs(tmp_path, line, message):
    lines = {
        "pipeline": 'pipeline = "tiny-sd"',
        "hardened": 'hardened = "tiny-srl"',
        "clip": 'clip = "tiny-clip"',
        "prompts": 'prompts = ["a"]',
        "attacks": 'attacks = [{ name = "advdm", eps = [15] }]',
        "purifiers": "purifiers = []",
        "images": "images = 2",
    }
    lines |= {line.split(" = ")[0]: line} if line else {"images": ""}
    (tmp_path / "own.toml").write_text("\n".join(lines.values()))
    with pytest.raises(InputError, match=message):
        editing_protocol(str(tmp_path / "own.toml"))


# --- the run


def test_every_row_is_there_and_is_written_as_returned(result, folder):
    rows = [(Cell(row["attack"], row["eps"], row["made_on"]), row["defence"]) for row in result["rows"]]
    assert rows == plan_of(PROTOCOL) and {row["n"] for row in result["rows"]} == {4}
    for row in (row["measured"] for row in result["rows"]):
        low, high = row["clip_i_small_interval"]
        assert low - 1e-6 <= row["clip_i_small"] <= high + 1e-6
        assert np.isfinite([row["random_frechet"], row["random_kid"], row["clip_t_small"]]).all()
    assert json.loads((folder.parent / "out" / "editing.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert {p.name for p in (folder.parent / "out" / "sheets").iterdir()} == {"photoguard-encoder.webp", "advdm.webp"}
    assert set(result["costs"]["purifiers"]) == {"jpeg", "vae-round-trip"}
    assert result["costs"]["purifiers"]["vae-round-trip"]["passes"] == {"encoder": 1, "decoder": 1, "unet": 0}


def test_clean_edits_under_the_original_vae_are_the_reference(result):
    (row,) = [r["measured"] for r in result["rows"] if (r["attack"], r["defence"]) == ("none", "none")]
    assert row["psnr"] is None and row["ssim"] == pytest.approx(1) and row["clip_i_small"] == pytest.approx(1)
    assert row["random_frechet"] == pytest.approx(0, abs=1e-6)


def test_an_equal_vae_gets_equal_numbers(pipeline, folder):
    rows = run(pipeline, small_kl(), folder, dataclasses.replace(PROTOCOL, purifiers=()), out="equal")["rows"]
    by_defence = {d: [r for r in rows if r["defence"] == d and r["made_on"] != "hardened"] for d in ("none", "hardened")}
    for none, own in zip(by_defence["none"], by_defence["hardened"], strict=True):
        assert none["key"] == own["key"] and none["measured"] == own["measured"]


def test_a_second_run_makes_nothing_and_a_longer_one_only_what_is_missing(pipeline, hardened, folder, result, made):
    assert sum(made) > 0
    made.clear()
    again = run(pipeline, hardened, folder, told=made.append)
    assert {**again, "seconds": result["seconds"]} == result and made == [] and 0 < again["seconds"]
    longer = dataclasses.replace(PROTOCOL, attacks=(*PROTOCOL.attacks, AttackPlan("mist-textural", (15,), steps=1)))
    run(pipeline, hardened, folder, longer, told=made.append)
    # The attacked images, their edits under both VAEs, and the JPEGs with theirs.
    assert sum(made) == 4 * (1 + 2 + 2)


def test_an_image_does_not_depend_on_how_many_there_are(pipeline, hardened, folder, result):
    fewer = run(pipeline, hardened, folder, dataclasses.replace(PROTOCOL, images=3), out="fewer")
    both = [{p.name: read_image(p) for p in (folder.parent / o / "cache").rglob("*.png")} for o in ("out", "fewer")]
    assert len(fewer["images"]) == 3 and set(both[1]) < set(both[0])
    for name, image in both[1].items():
        # Sums of batches of another size: a grey level here and there.
        assert (image - both[0][name]).abs().mean() < 0.5 / 255


def test_attacked_images_keep_their_budget(pipeline, hardened, folder, result):
    x, _ = bench.load_photographs(folder, 4, pipeline.size, 0)
    kept = bench.Editing(pipeline, hardened, x, PROTOCOL, Store(folder.parent / "out" / "cache", 3))
    for eps in (8, 15):
        for cell in (Cell("photoguard-encoder", eps, "original"), Cell("noise", eps, "")):
            moved = (kept.attacked(cell).images - x).abs().max() * 255
            assert 0 < moved.round() <= eps


def test_two_processes_make_every_image_once_and_both_have_all(tmp_path, monkeypatch):
    who, made = threading.local(), []
    monkeypatch.setattr(cache, "PartialState", lambda: SimpleNamespace(process_index=who.number, num_processes=2))
    keys = [key_of("noise", number=i) for i in range(5)]

    def make(part: list[int]):
        time.sleep(0.02 * who.number)  # the second finds files of the first already there
        made.extend(part)
        return torch.stack([torch.full((3, 2, 2), i / 255) for i in part]), [None] * len(part)

    def process(number: int) -> list[int]:
        who.number = number
        return (Store(tmp_path, 2).images(keys, make)[:, 0, 0, 0] * 255).round().int().tolist()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(process, range(2))) == [[0, 1, 2, 3, 4]] * 2
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_a_process_that_is_alone_with_its_images_waits_for_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PartialState", lambda: SimpleNamespace(process_index=1, num_processes=2))
    monkeypatch.setattr(cache, "wait_for", lambda *_: pytest.fail("waited"))
    keys = [key_of("noise", number=i) for i in range(3)]
    images = Store(tmp_path, 2, shared=False).images(keys, lambda part: (torch.ones(len(part), 3, 2, 2), [None] * len(part)))
    assert images.shape == (3, 3, 2, 2)


@pytest.mark.parametrize("dead", [True, False])
def test_a_process_that_died_is_named_and_one_that_works_is_waited_for(dead, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "DEAD", 0.3)
    sign, late = tmp_path / ".alive-1", tmp_path / "late.png"
    sign.touch()
    if dead:
        with pytest.raises(InputError, match="process 1 has stopped before it made late.png; start the same command again"):
            wait_for(late, tmp_path, 1)
        return

    def work() -> None:
        for _ in range(10):
            time.sleep(0.1)
            sign.touch()
        late.touch()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        assert wait_for(late, tmp_path, 1) == late


def test_a_sign_of_an_earlier_run_is_none_of_this_one(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "DEAD", 0.1)
    (tmp_path / ".alive-1").touch()
    os.utime(tmp_path / ".alive-1", (0, 0))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (time.sleep(0.5), (tmp_path / "late.png").touch()))
        assert wait_for(tmp_path / "late.png", tmp_path, 1).exists()


def test_a_living_process_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BEAT", 0.05)
    beat(tmp_path, 3)
    sign = tmp_path / ".alive-3"
    os.utime(sign, (0, 0))
    time.sleep(0.5)
    assert sign.stat().st_mtime > 0


def test_images_behind_a_purifier_with_a_pipeline_of_its_own_are_kept(pipeline, tmp_path, monkeypatch):
    pixel().save_pretrained(tmp_path / "ddpm")
    plan, x = PurifierPlan("diffpure", str(tmp_path / "ddpm"), {"t": 2}), torch.rand(2, 3, 16, 16)
    given = (x, ["a", "b"], ["a", "b"], 0, Store(tmp_path / "cache", 2))
    keys, images = Purification(pipeline).keep(plan, *given)
    assert images.shape == x.shape and len(set(keys)) == 2
    monkeypatch.setattr(Purification, "run", lambda *_: pytest.fail("made again"))
    assert torch.equal(Purification(pipeline).keep(plan, *given)[1], images)
    elsewhere = dataclasses.replace(plan, source=str(tmp_path / "other"))
    pixel().save_pretrained(tmp_path / "other")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        Purification(pipeline).keep(elsewhere, *given)


def test_an_image_is_kept_under_its_own_levels():
    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    other = x.clone()
    other[0, 0, 0] = 1 - other[0, 0, 0].round()
    assert key_of_image(x) == key_of_image(x.clone()) != key_of_image(other)
    assert key_of("noise", a=1) != key_of("edited", a=1)
    assert key_of("noise", a=1, b=2) == key_of("noise", b=2, a=1) != key_of("noise", a=2, b=1)


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("attacks/engine/pgd.py", {"attacked", "poisoned"}),
        ("bench/compare.py", {"measured"}),
        ("bench/poisoned.py", {"poisoned"}),
        ("rng.py", set(STAGES)),
        ("report/plots.py", set()),
    ],
)
def test_a_changed_line_changes_what_it_makes_is_kept_under_and_nothing_else(changed, stages, tmp_path, monkeypatch):
    copy = tmp_path / "srlvae"
    shutil.copytree(provenance.ROOT, copy, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", copy)

    def keys() -> dict[str, str]:
        provenance.code.cache_clear()
        return {stage: key_of(stage, a=1) for stage in STAGES}

    before = keys()
    with open(copy / changed, "a") as file:
        file.write("# another line\n")
    after = keys()
    provenance.code.cache_clear()
    assert {stage for stage in STAGES if before[stage] != after[stage]} == stages


# --- the numbers


def test_the_interval_of_a_frechet_distance_holds_the_distance_and_shrinks_with_n():
    draw = torch.Generator().manual_seed(0)
    widths = []
    for n in (20, 200):
        x, y = torch.randn(n, 3, generator=draw), torch.randn(n, 3, generator=draw) + 1
        low, high = frechet_interval(x, y, torch.arange(n), draw, draws=100)
        assert low < compare.frechet_distance(x, y) < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_the_floor_is_that_of_halves_and_of_other_noise():
    floor = compared(PooledFeatures()).floor(pictures(1))
    assert floor["halves_n"] == 4 and floor["halves"]["random_frechet"] > 0 and np.isfinite(floor["halves"]["random_kid"])
    assert floor["other noise"]["ssim"] < 0.9


def test_a_network_of_pairs_and_one_of_sets_judge_together():
    class Pairs(RandomFeatures):
        name, gives_pooled = "pairs", False

    class Sets(PooledFeatures):
        name, gives_columns = "sets", False

    row = compared(Sets(), Pairs()).row(pictures(1))
    assert {"sets_frechet", "sets_kid", "pairs_distance", "distances"} <= set(row)
    assert not {"sets_distance", "pairs_frechet"} & set(row)
    for name in ("sets_frechet", "sets_kid", "pairs_distance", "psnr", "clip_i_small"):
        assert row[f"{name}_interval"][0] < row[name] < row[f"{name}_interval"][1]
    with pytest.raises(InputError, match="pairs cannot judge both pairs and sets"):
        compared(Pairs())


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def compared(*networks) -> Comparison:
    """Four photographs with two edits each."""
    return Comparison(list(networks), SmallClip(), pictures(0), ["a"] * 8, [0, 0, 1, 1, 2, 2, 3, 3], 4, 0)
