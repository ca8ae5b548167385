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

from conftest import small_kl
from heard import Heard
from pipelines import little, pixel, sd15
from small import RandomFeatures
from srlvae import provenance
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench import cache, distances, estimates
from srlvae.bench import edited as bench
from srlvae.bench.attacked import ImageSet, attacked_images, photograph_set
from srlvae.bench.cache import STAGES, Cache, key_of, key_of_image, start_heartbeat, wait_for
from srlvae.bench.cells import CLEAN, Cell
from srlvae.bench.distances import EditDistances, Networks
from srlvae.bench.editing import editing
from srlvae.bench.editing_plan import conditions
from srlvae.bench.editor import Editor
from srlvae.bench.estimates import frechet_interval, mean_estimate
from srlvae.bench.load_protocol import editing_protocol
from srlvae.bench.photographs import digest_of_keys, load_photographs, shortage
from srlvae.bench.protocol import ChosenAttack, ChosenPurifier, EditingProtocol
from srlvae.bench.purifiers import Purifiers
from srlvae.bench.rows import Row, read_measures, read_rows
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import LeftOut, read_image, to_levels
from srlvae.models.pairs import differences
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.report.rows import find_row, find_rows, made_on, measured_value
from srlvae.rng import named_generator, uniform_like
from twins import PooledFeatures, SmallClip, hardened_twin

PROTOCOL = EditingProtocol(
    pipeline="sd15",
    hardened="hardened",
    clip="clip",
    prompts=("a photo of a cat", "a photo of a dog"),
    attacks=(
        ChosenAttack("photoguard-encoder", (8 / 255, 15 / 255), steps=2, white_box=True),
        ChosenAttack("advdm", (15 / 255,), steps=1),
    ),
    purifiers=(ChosenPurifier("jpeg", eps=(15 / 255,)), ChosenPurifier("vae-round-trip", attacks=("advdm",))),
    images=4,
    steps=2,
    guidance=2.0,
    batch_size=3,
    pairs="random",
    sets="random",
)


@pytest.fixture(scope="module", autouse=True)
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "load_features", lambda name: PooledFeatures())
        patch.setattr(bench, "load_clip", lambda name, device: SmallClip())
        patch.setattr(estimates, "RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return little(small_kl())


@pytest.fixture(scope="module")
def hardened() -> VAE:
    return hardened_twin()


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
def made() -> Heard:
    return Heard(bar="rows")


@pytest.fixture(scope="module")
def result(pipeline, hardened, folder, made) -> dict:
    """The protocol, run once."""
    return run(pipeline, hardened, folder, listener=made)


def run(pipeline, hardened, folder, protocol=PROTOCOL, out="out", **options) -> dict:
    return editing(pipeline, hardened, folder, folder.parent / out, protocol, **options)


def rows_of(result: dict, **wanted) -> list[Row]:
    return find_rows(read_rows(result["rows"]), **wanted)


# --- the plan


def test_every_set_is_tried_under_every_defence_that_takes_it():
    plan = conditions(PROTOCOL)
    assert len(plan) == len(set(plan))

    def defences(cell: Cell) -> set[str]:
        return {defence for other, defence in plan if other == cell}

    low, high = (Cell("photoguard-encoder", eps, "original") for eps in (8 / 255, 15 / 255))
    assert defences(CLEAN) == {"none", "hardened", "jpeg", "vae-round-trip"}
    assert defences(low) == {"none", "hardened"}
    assert defences(high) == {"none", "hardened", "jpeg"}
    assert defences(Cell("advdm", 15 / 255, "original")) == {"none", "hardened", "jpeg", "vae-round-trip"}
    assert {defence for cell, defence in plan if cell.made_on == "hardened"} == {"hardened"}
    assert Cell("advdm", 15 / 255, "hardened") not in {cell for cell, _ in plan}


@pytest.mark.parametrize("name", ["quick", "paper", "full", "fifteen", "curves", "sd15"])
def test_a_named_protocol_has_the_paper_s_budget_for_every_attack(name):
    protocol = editing_protocol(name)
    assert all(15 / 255 in chosen.eps for chosen in protocol.attacks)
    assert conditions(protocol)


def test_an_unknown_protocol_or_setting_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="'fast'.*curves, fifteen, full, paper, quick, sd15"):
        editing_protocol("fast")
    (tmp_path / "own.toml").write_text('pipeline = "tiny-sd"\nbudget = 3\n')
    with pytest.raises(InputError, match="'budget'"):
        editing_protocol(str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('attacks = [{ name = "jpeg", eps = ["15/255"] }]', "unknown attack 'jpeg'"),
        (
            'attacks = [{ name = "advdm", eps = ["8/255"] }, { name = "advdm", eps = ["15/255"] }]',
            "attack 'advdm' is listed twice",
        ),
        ('attacks = [{ name = "advdm", eps = [] }]', "advdm: eps must not be empty"),
        ('purifiers = [{ name = "jpg" }]', "unknown purifier 'jpg'"),
        ('purifiers = [{ name = "jpeg" }, { name = "jpeg", settings = { quality = 30 } }]', "'jpeg' is listed twice"),
        ('purifiers = [{ name = "jpeg", settings = { strength = 3 } }]', "jpeg has no setting 'strength'; it has quality"),
        ('purifiers = [{ name = "pdm-pure" }]', "pdm-pure needs `source`"),
        ('purifiers = [{ name = "jpeg", settings = { quality = "x" } }]', "jpeg: quality must be a whole number, got 'x'"),
        ('purifiers = [{ name = "jpeg", settings = { quality = 500 } }]', "jpeg: quality must be at most 100, got 500"),
        ('purifiers = [{ name = "gaussian-noise", settings = { sigma = true } }]', "sigma must be a number, got True"),
        ('purifiers = [{ name = "jpeg", attacks = ["advd"] }]', "attacks has 'advd', perhaps advdm"),
        ('purifiers = [{ name = "jpeg", eps = ["14/255"] }]', "eps has 14/255, which no attack of the protocol has"),
        ('attacks = [{ name = "advdm", eps = [15] }]', "advdm: .*write 15/255 for 15 grey levels"),
        ("prompts = []", "prompts must not be empty"),
        ('prompts = ["a", "b", "a"]', "prompts has 'a' twice"),
        ("prompts_an_image = 2", "prompts_an_image is 2, but there are only 1 prompts"),
        ('attacks = [{ name = "advdm", eps = ["15/255", "15/255"] }]', "advdm: eps has '15/255' twice"),
        ('attacks = [{ name = "latent", eps = ["15/255"], also_on = ["both", "both"] }]', "also_on has 'both' twice"),
        ('attacks = [{ name = "latent", eps = ["7.65/255"] }]', "eps is 7.65/255; give whole grey levels, such as 8/255"),
        ('attacks = [{ name = "latent", eps = ["0.5/255"] }]', "give whole grey levels, such as 1/255"),
        (
            'attacks = [{ name = "photoguard-encoder", eps = ["15/255"] }, '
            '{ name = "photoguard-encoder", preset = "paper", eps = ["15/255"] }]',
            "attacks has .* twice",
        ),
        ("images = 1", "images must be at least 2"),
        ("side = 15", "side is 15; give at least 16, or 0 for the pipeline's own"),
        ("side = -1", "side must be at least 0"),
        ('pairs = "vgg"', "unknown feature network 'vgg'"),
        ("", "setting 'images' is missing"),
    ],
)
def test_a_protocol_is_refused_before_anything_runs(tmp_path, line, message):
    lines = {
        "pipeline": 'pipeline = "tiny-sd"',
        "hardened": 'hardened = "tiny-srl"',
        "clip": 'clip = "tiny-clip"',
        "prompts": 'prompts = ["a"]',
        "attacks": 'attacks = [{ name = "advdm", eps = ["15/255"] }]',
        "purifiers": "purifiers = []",
        "images": "images = 2",
    }
    lines |= {line.split(" = ")[0]: line} if line else {"images": ""}
    (tmp_path / "own.toml").write_text("\n".join(lines.values()))
    with pytest.raises(InputError, match=message):
        editing_protocol(str(tmp_path / "own.toml"))


def test_an_attack_goes_through_nothing_that_is_not_tried_on_it(tmp_path):
    attacks = """attacks = [
      { name = "latent", eps = ["8/255"] }, { name = "photoguard-encoder", eps = ["15/255"], through = ["jpeg"] },
    ]"""
    lines = ['pipeline = "tiny-sd"', 'hardened = "tiny-srl"', 'clip = "tiny-clip"', 'prompts = ["a"]', "images = 2", attacks]
    for tried, message in (('attacks = ["latent"]', "not tried on it"), ('eps = ["8/255"]', "not tried on it")):
        (tmp_path / "own.toml").write_text("\n".join([*lines, f'purifiers = [{{ name = "jpeg", {tried} }}]']))
        with pytest.raises(InputError, match=message):
            editing_protocol(str(tmp_path / "own.toml"))
    (tmp_path / "own.toml").write_text("\n".join([*lines, 'purifiers = [{ name = "jpeg", eps = ["15/255"] }]']))
    assert editing_protocol(str(tmp_path / "own.toml")).purifiers[0].takes("photoguard-encoder", 15 / 255)


# --- the run


def test_fewer_photographs_than_the_protocol_has_are_a_doubt(pipeline, hardened, folder, tmp_path):
    heard = Heard()
    x, _ = load_photographs(folder, 500, 32, 0, LeftOut(heard))
    assert heard.texts == [f"{folder} has {len(x)} photographs that can be used; the protocol takes up to 500"]
    assert shortage(len(x), len(x)) == [] and len(shortage(len(x), 500)) == 1
    # Which photographs they are is told by their pixels, in their order.
    keys = photograph_set(x).keys
    assert digest_of_keys(keys) != digest_of_keys(keys[::-1])
    few = dataclasses.replace(PROTOCOL, images=9, attacks=(), purifiers=())
    short = editing(pipeline, hardened, folder, tmp_path / "short", few)
    assert short["doubts"] == shortage(len(short["images"]), 9) != []
    squares, _ = load_photographs(folder, 9, pipeline.size, few.seed)
    assert short["photographs"] == digest_of_keys(photograph_set(squares).keys)


def test_photographs_have_the_side_that_the_protocol_says(pipeline, hardened, folder):
    small = dataclasses.replace(PROTOCOL, side=pipeline.size // 2, attacks=PROTOCOL.attacks[1:], purifiers=())
    result = run(pipeline, hardened, folder, small, out="half")
    x, _ = load_photographs(folder, PROTOCOL.images, pipeline.size // 2, PROTOCOL.seed, LeftOut(Listener()))
    assert result["photographs"] == digest_of_keys([key_of_image(image) for image in x])
    assert len(find_rows(read_rows(result["rows"]), attack="advdm")) == 2
    with pytest.raises(InputError, match="takes multiples of"):
        run(pipeline, hardened, folder, dataclasses.replace(small, side=pipeline.size + 1), out="odd")


def test_every_row_is_there_and_is_written_as_returned(result, folder):
    rows = rows_of(result)
    said = [(row.condition, row.access, row.defence) for row in rows]
    planned = [(cell.condition(), cell.access(defence), defence) for cell, defence in conditions(PROTOCOL)]
    assert said[: len(planned)] == planned
    worst = [(about["eps"], about["attacks"], access, defence) for about, access, defence in said[len(planned) :]]
    own = [("8/255", 2, "white-box"), ("15/255", 2, "transfer"), ("15/255", 3, "white-box")]
    others = [("15/255", 2, "transfer", "jpeg"), ("15/255", 2, "white-box", "none")]
    assert worst == [*((*found, "hardened") for found in own), *others]
    assert {row.n for row in rows} == {4} and {made_on(row) for row in rows} == {"", "original", "hardened"}
    for row in rows[: len(planned)]:
        likeness = row.measures["clip_i"]
        assert likeness.low - 1e-6 <= likeness.value <= likeness.high + 1e-6
        assert np.isfinite([measured_value(row, measure) for measure in ("frechet", "kid", "clip_t")]).all()
    assert json.loads((folder.parent / "out" / "editing.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert {p.name for p in (folder.parent / "out" / "sheets").iterdir()} == {"photoguard-encoder.webp", "advdm.webp"}
    assert set(result["costs"]["purifiers"]) == {"jpeg", "vae-round-trip"}
    assert result["costs"]["purifiers"]["vae-round-trip"]["passes"] == {"encoder": 1, "decoder": 1, "unet": 0}


def test_floor_and_reconstruction_are_rows_too(result):
    floor, clean = (read_rows(result[key]) for key in ("floor", "reconstruction"))
    assert [row.condition["compared"] for row in floor] == ["other noise", "halves"] and [row.n for row in floor] == [4, 2]
    assert measured_value(floor[0], "frechet") > 0 and set(floor[1].measures) == {"frechet", "kid"}
    assert [row.defence for row in clean] == ["none", "hardened"] and all(measured_value(row, "psnr") > 0 for row in clean)


def test_clean_edits_under_the_original_vae_are_the_reference(result):
    row = find_row(rows_of(result), attack="none", defence="none")
    assert row.measures["psnr"].value is None and row.measures["psnr"].n == 0
    assert measured_value(row, "ssim") == pytest.approx(1) and measured_value(row, "clip_i") == pytest.approx(1)
    assert measured_value(row, "frechet") == pytest.approx(0, abs=1e-6)


def test_an_equal_vae_gets_equal_numbers(pipeline, folder):
    rows = rows_of(run(pipeline, small_kl(), folder, dataclasses.replace(PROTOCOL, purifiers=()), out="equal"))
    none, own = ([r for r in find_rows(rows, defence=d) if made_on(r) != "hardened"] for d in ("none", "hardened"))
    for before, after in zip(none, own, strict=True):
        assert before.condition == after.condition and before.measures == after.measures


def kept(out: Path) -> dict[Path, int]:
    """Every file of the cache, and when it was written."""
    return {file: file.stat().st_mtime_ns for file in (out / "cache").rglob("*") if file.is_file()}


def test_a_second_run_makes_nothing_and_a_longer_one_only_what_is_missing(pipeline, hardened, folder, result, made):
    assert made.images_made > 0
    again_made, longer_made = Heard(bar="rows"), Heard(bar="rows")
    before = kept(folder.parent / "out")
    again = run(pipeline, hardened, folder, listener=again_made)
    assert kept(folder.parent / "out") == before
    assert {**again, "seconds": result["seconds"]} == result and again_made.images_made == 0 and 0 < again["seconds"]
    longer = dataclasses.replace(PROTOCOL, attacks=(*PROTOCOL.attacks, ChosenAttack("mist-textural", (15 / 255,), steps=1)))
    run(pipeline, hardened, folder, longer, listener=longer_made)
    # The attacked images, their edits under both VAEs, and the JPEGs with theirs.
    assert longer_made.images_made == 4 * (1 + 2 + 2)


def test_another_judge_measures_anew(pipeline, hardened, folder, result):
    shutil.copytree(folder.parent / "out" / "cache", folder.parent / "judge" / "cache")
    before = kept(folder.parent / "judge").keys()
    run(pipeline, hardened, folder, dataclasses.replace(PROTOCOL, sets="another"), out="judge")
    # A record a row, and one of another draw of noise.
    assert len(kept(folder.parent / "judge").keys() - before) == len(conditions(PROTOCOL)) + 1


def test_an_image_does_not_depend_on_how_many_there_are(pipeline, hardened, folder, result):
    fewer = run(pipeline, hardened, folder, dataclasses.replace(PROTOCOL, images=3), out="fewer")
    both = [{p.name: read_image(p) for p in (folder.parent / o / "cache").rglob("*.png")} for o in ("out", "fewer")]
    assert len(fewer["images"]) == 3 and set(both[1]) < set(both[0])
    for name, image in both[1].items():
        # Sums of batches of another size: a grey level here and there.
        assert (image - both[0][name]).abs().mean() < 0.5 / 255


def test_attacked_images_keep_their_budget(pipeline, hardened, folder, result):
    x, _ = load_photographs(folder, 4, pipeline.size, 0)
    kept = Editor(pipeline, hardened, x, PROTOCOL, Cache(folder.parent / "out" / "cache", 3))
    for levels in (8, 15):
        for cell in (Cell("photoguard-encoder", levels / 255, "original"), Cell("uniform-noise", levels / 255, "")):
            moved = (kept.attacked(cell).images - x).abs().max() * 255
            assert 0 < moved.round() <= levels


def test_two_processes_make_every_image_once_and_both_have_all(tmp_path, monkeypatch):
    who, made = threading.local(), []
    monkeypatch.setattr(cache, "processes", lambda: SimpleNamespace(process_index=who.number, num_processes=2))
    keys = [key_of("noisy", number=i) for i in range(5)]

    def make(part: list[int]):
        time.sleep(0.02 * who.number)  # the second finds files of the first already there
        made.extend(part)
        return torch.stack([torch.full((3, 2, 2), i / 255) for i in part]), [None] * len(part)

    def process(number: int) -> list[int]:
        who.number = number
        return (Cache(tmp_path, 2).images(keys, make)[:, 0, 0, 0] * 255).round().int().tolist()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(process, range(2))) == [[0, 1, 2, 3, 4]] * 2
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_a_process_that_is_alone_with_its_images_waits_for_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "processes", lambda: SimpleNamespace(process_index=1, num_processes=2))
    monkeypatch.setattr(cache, "wait_for", lambda *_: pytest.fail("waited"))
    keys = [key_of("noisy", number=i) for i in range(3)]
    images = Cache(tmp_path, 2, shared=False).images(keys, lambda part: (torch.ones(len(part), 3, 2, 2), [None] * len(part)))
    assert images.shape == (3, 3, 2, 2)


@pytest.mark.parametrize("dead", [True, False])
def test_a_process_that_died_is_named_and_one_that_works_is_waited_for(dead, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "DEAD_SECONDS", 0.3)
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
    monkeypatch.setattr(cache, "DEAD_SECONDS", 0.1)
    (tmp_path / ".alive-1").touch()
    os.utime(tmp_path / ".alive-1", (0, 0))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (time.sleep(0.5), (tmp_path / "late.png").touch()))
        assert wait_for(tmp_path / "late.png", tmp_path, 1).exists()


def test_a_wish_to_stop_ends_a_benchmark_after_what_was_made_and_it_goes_on(pipeline, hardened, folder, result):
    heard = Heard(stop_at=3, bar="images")
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, hardened, folder, out="stopped", listener=heard)
    # A batch of three of the four photographs' edits, and no step of anything after it.
    kept_images = list((folder.parent / "stopped" / "cache").rglob("*.png"))
    assert heard.numbers == [3] and len(kept_images) == 3
    again = run(pipeline, hardened, folder, out="stopped")
    assert [row["measures"] for row in again["rows"]] == [row["measures"] for row in result["rows"]]


def test_a_wish_to_stop_is_heard_at_every_step_of_an_attack(pipeline, hardened, tmp_path):
    class Stopped(Listener):
        asked = 0

        def should_stop(self):
            self.asked += 1
            return self.asked == 2

    attack = prepare(Request("photoguard-encoder", steps=9), pipeline)
    clean, listener = photograph_set(to_levels(torch.rand(1, 3, 32, 32)) / 255), Stopped()
    with pytest.raises(KeyboardInterrupt):
        attacked_images(attack, clean, Cache(tmp_path / "cache", 1, listener))
    assert listener.asked == 2


def test_a_living_process_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BEAT_SECONDS", 0.05)
    start_heartbeat(tmp_path, 3)
    sign = tmp_path / ".alive-3"
    os.utime(sign, (0, 0))
    time.sleep(0.5)
    assert sign.stat().st_mtime > 0


def test_a_vae_of_another_shape_is_refused_and_one_with_another_decoder_is_told(pipeline, hardened, folder, result):
    with pytest.raises(InputError, match="4 channels, 4 times smaller .* and the other of 16 channels, 4 times"):
        run(pipeline, small_kl(16), folder, out="other")
    assert result["doubts"] == []
    with torch.no_grad():
        other = hardened_twin()
        next(other.model.decoder.parameters()).add_(0.1)
    assert differences(pipeline.vae, other) == [
        "the two VAEs do not share a decoder: what is measured is not their encoders alone"
    ]
    with torch.no_grad():
        next(other.model.decoder.parameters()).sub_(0.1)
    other.model.register_to_config(scaling_factor=0.5)
    assert "the two VAEs scale their latents differently" in differences(pipeline.vae, other)


def test_the_noise_of_a_purifier_is_not_that_of_an_attack(pipeline):
    x, names = torch.full((4, 3, 32, 32), 0.5), ["a", "b", "c", "d"]
    start = uniform_like(x, [named_generator(0, name) for name in names])
    noise = Purifiers(pipeline).run(ChosenPurifier("gaussian-noise"), x, names, 0) - x
    # Of 12,288 pairs; torch makes normal draws of the very numbers of uniform ones.
    assert abs(torch.corrcoef(torch.stack([start.flatten(), noise.flatten()]))[0, 1]) < 0.05


def test_what_a_purifier_draws_by_another_seed_is_kept_apart(pipeline, tmp_path):
    given, chosen = ImageSet(["a"], torch.full((1, 3, 32, 32), 0.5)), ChosenPurifier("gaussian-noise")
    one, other = (Purifiers(pipeline).images(chosen, given, ["a"], seed, Cache(tmp_path, 1)) for seed in (0, 1))
    assert one.keys != other.keys and not torch.equal(one.images, other.images)


def test_edits_are_kept_under_all_that_they_depend_on(pipeline, hardened, tmp_path):
    changes = ({}, {"strength": 0.9}, {"steps": 5}, {"guidance": 3.0}, {"seed": 9})
    models = [(pipeline, dataclasses.replace(PROTOCOL, **changed)) for changed in changes]
    models.append((sd15(small_kl(), "v_prediction", little=True), PROTOCOL))
    x, cache = torch.full((1, 3, 32, 32), 51 / 255), Cache(tmp_path, 2)
    editors = [Editor(model, hardened, x, protocol, cache) for model, protocol in models]
    keys = [key for editor in editors for key in editor.edits(editor.clean).keys]
    assert len(set(keys)) == len(keys) == len(models)


def test_purified_images_are_kept_under_all_that_their_pipeline_depends_on(tmp_path):
    x, chosen, keys = torch.rand(1, 3, 32, 32), ChosenPurifier("sdedit"), set()
    for kind in ("epsilon", "v_prediction"):
        purifiers = Purifiers(sd15(small_kl(), kind, little=True))
        keys |= {*purifiers.images(chosen, ImageSet(["a"], x), ["a"], 0, Cache(tmp_path / "cache", 1)).keys}
        keys.add(str(purifiers.through(chosen).settings()))
    assert len(keys) == 4


def test_images_behind_a_purifier_with_a_pipeline_of_its_own_are_kept(pipeline, tmp_path, monkeypatch):
    pixel().save_pretrained(tmp_path / "ddpm")
    chosen, x = ChosenPurifier("diffpure", str(tmp_path / "ddpm"), {"t": 2}), torch.rand(2, 3, 16, 16)
    given = (ImageSet(["a", "b"], x), ["a", "b"], 0, Cache(tmp_path / "cache", 2))
    found = Purifiers(pipeline).images(chosen, *given)
    assert found.images.shape == x.shape and len(set(found.keys)) == 2
    monkeypatch.setattr(Purifiers, "run", lambda *_, **__: pytest.fail("made again"))
    assert torch.equal(Purifiers(pipeline).images(chosen, *given).images, found.images)
    elsewhere = dataclasses.replace(chosen, source=str(tmp_path / "other"))
    pixel().save_pretrained(tmp_path / "other")
    assert Purifiers(pipeline).images(elsewhere, *given).keys == found.keys
    other = pixel()
    with torch.no_grad():
        other.unet.conv_in.bias.add_(1)
    # In the very place of the first.
    other.save_pretrained(tmp_path / "ddpm")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        Purifiers(pipeline).images(chosen, *given)


def test_a_record_is_made_once_and_read_back(tmp_path):
    kept, key = Cache(tmp_path, 2), key_of("compared", edits=["a"])
    assert not kept.has_record(key)
    assert kept.record(key, lambda: {"psnr": 20.5}) == {"psnr": 20.5} and kept.has_record(key)
    assert kept.record(key, lambda: pytest.fail("made again")) == kept.record_of(key, process=1) == {"psnr": 20.5}


def test_an_image_is_kept_under_its_own_levels():
    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    other = x.clone()
    other[0, 0, 0] = 1 - other[0, 0, 0].round()
    assert key_of_image(x) == key_of_image(x.clone()) != key_of_image(other)
    assert key_of("noisy", a=1) != key_of("edited", a=1)
    assert key_of("noisy", a=1, b=2) == key_of("noisy", b=2, a=1) != key_of("noisy", a=2, b=1)


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("attacks/engine/pgd.py", {"attacked", "poisoned", "mimicked"}),
        ("attacks/contrast.py", {"noisy", "attacked", "poisoned", "mimicked"}),
        ("bench/distances.py", {"compared", "reconstructed", "poisoned", "mimicked"}),
        ("bench/editor.py", {"edited"}),
        ("bench/attacked.py", {"attacked", "noisy", "poisoned", "mimicked"}),
        ("bench/poison_tuning.py", {"poisoned"}),
        ("bench/points.py", {"poisoned", "mimicked"}),
        ("bench/kinds_drawn.py", {"mimicked"}),
        ("rng.py", set(STAGES)),
        ("report/plots.py", set()),
    ],
)
def test_a_changed_line_changes_what_it_makes_is_kept_under_and_nothing_else(changed, stages, tmp_path, monkeypatch):
    copy = tmp_path / "srlvae"
    shutil.copytree(provenance.ROOT, copy, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", copy)

    def keys() -> dict[str, str]:
        provenance.code_digest.cache_clear()
        return {stage: key_of(stage, a=1) for stage in STAGES}

    before = keys()
    with open(copy / changed, "a") as file:
        file.write("# another line\n")
    after = keys()
    provenance.code_digest.cache_clear()
    assert {stage for stage in STAGES if before[stage] != after[stage]} == stages


# --- the numbers


def test_the_interval_of_a_frechet_distance_holds_the_distance_and_shrinks_with_n():
    draw = torch.Generator().manual_seed(0)
    widths = []
    for n in (20, 200):
        x, y = torch.randn(n, 3, generator=draw), torch.randn(n, 3, generator=draw) + 1
        low, high = frechet_interval(x, y, torch.arange(n), draw, draws=100)
        assert low < estimates.frechet_distance(x, y) < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_halves_of_the_photographs_are_apart_without_an_interval():
    halves = compared(PooledFeatures(), PooledFeatures()).between_halves()
    assert halves["frechet"].value > 0 and np.isfinite(halves["kid"].value)
    assert halves["frechet"].n == 4 and halves["frechet"].low is None


def test_a_network_of_pairs_and_one_of_sets_judge_together():
    class Pairs(RandomFeatures):
        name, gives_pooled = "pairs", False

    class Sets(PooledFeatures):
        name, gives_columns = "sets", False

    found = compared(Pairs(), Sets()).to(pictures(1))
    measures = read_measures(found["measures"])
    assert set(measures) == {"psnr", "ssim", "distance", "frechet", "kid", "clip_i", "clip_t"}
    for name in ("frechet", "kid", "distance", "psnr", "clip_i"):
        assert measures[name].low < measures[name].value < measures[name].high and measures[name].n == 8
    # What transfer and white-box are compared by is per pair.
    assert np.mean(found["distances"]) == pytest.approx(measures["distance"].value, rel=1e-5)
    with pytest.raises(InputError, match="sets: pairs gives no pooled vectors"):
        compared(Pairs(), Pairs())
    with pytest.raises(InputError, match="pairs: sets gives no feature maps"):
        compared(Sets(), Sets())


def test_equal_pairs_do_not_count_among_those_that_have_a_psnr():
    found = mean_estimate(torch.tensor([20.0, float("inf"), 30.0]), 0)
    assert (found.value, found.n) == (25.0, 2) and 20 <= found.low < found.high <= 30
    nothing = mean_estimate(torch.tensor([float("inf")]), 0)
    assert (nothing.value, nothing.low, nothing.high, nothing.n) == (None, None, None, 0)


def test_an_attack_that_bounds_no_pixel_does_not_count_in_the_worst_case():
    pixels, directions = (Cell(attack, 15 / 255, "original") for attack in ("latent", "dct-shield"))
    part = dataclasses.replace(pixels, part="rest")
    assert [bench._counts(cell) for cell in (pixels, directions, part)] == [True, False, False]


def test_transfer_that_hurts_more_than_white_box_is_a_doubt(pipeline, hardened, folder, result):
    x, _ = load_photographs(folder, 4, pipeline.size, 0)
    rows = bench.EditedRows(Editor(pipeline, hardened, x, PROTOCOL, Cache(folder.parent / "out" / "cache", 3)))
    own, other = (Cell("photoguard-encoder", 15 / 255, made_on) for made_on in ("hardened", "original"))
    for transfer, count in (([0.0] * 4, 0), ([100.0, 100.0, 0.0, 0.0], 2)):
        rows.pair_distances[other, "hardened"] = transfer
        assert sum("too weak" in doubt for doubt in rows.row(own, "hardened").doubts) == count


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def compared(pairs, sets) -> EditDistances:
    """Four photographs with two edits each."""
    return EditDistances(Networks(pairs, sets, 4), SmallClip(), pictures(0), ["a"] * 8, [0, 0, 1, 1, 2, 2, 3, 3], 0)
