"""The poisoning benchmark: the plan, what goes into a fine-tuning, what the judge is asked, and sweeps that go on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from conftest import small_kl
from pipelines import sd15
from srlvae.bench.cache import Store
from srlvae.bench.poisoned import Point, Poisoning
from srlvae.bench.poisoning import points, poisoning
from srlvae.bench.protocol import Concept, Pair, PoisoningProtocol, PurifierPlan, poisoning_protocol
from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.metrics.clip import Clip
from srlvae.metrics.judge import Judge

PROTOCOL = PoisoningProtocol(
    pipeline="sd15",
    hardened="hardened",
    concepts=(Concept("cats", "cat"), Concept("dogs", "dog"), Concept("cars", "car")),
    pairs=(Pair("cat", "dog"),),
    counts=(0, 3),
    kinds=("transfer", "white-box", "dirty-label"),
    seeds=(0,),
    purifiers=(PurifierPlan("jpeg"),),
    clean_each=2,
    attack_steps=1,
    steps=1,
    batch_size=2,
    generated=3,
    others=2,
    denoising_steps=2,
)


class SmallClip(Clip):
    def __init__(self):
        self.name = "small"

    def fingerprint(self):
        return "small"

    def images(self, x):
        return F.normalize(F.adaptive_avg_pool2d(x, 2).flatten(1), dim=-1)

    def texts(self, texts):
        return F.normalize(torch.ones(len(texts), 12), dim=-1)


class SaysDog(Judge):
    """Calls everything a dog."""

    def __init__(self):
        self.concepts = ["cat", "dog", "car", "bird"]

    def fingerprint(self):
        return "dog"

    def calls(self, x):
        return torch.ones(len(x), dtype=torch.long)


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, name in enumerate(("cats", "dogs", "cars")):
        for i in range(4):
            picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(10 * k + i))
            write_image(tmp_path / "photographs" / name / f"{i}.png", F.interpolate(picture[None], 64)[0])
    return tmp_path / "photographs"


def bench(folder: Path, protocol=PROTOCOL) -> Poisoning:
    store = Store(folder.parent / "cache", 2)
    return Poisoning(sd15(small_kl()), small_kl(), folder, SmallClip(), SaysDog(), protocol, store)


# --- the plan


def test_transfer_is_swept_and_what_is_compared_has_the_largest_count_and_budget():
    plan = list(points(dataclasses.replace(PROTOCOL, counts=(0, 1, 3), eps=(5, 10))))
    assert len(plan) == len(set(plan))
    by_defence = {d: {(p.kind, p.eps, p.count) for p in plan if p.defence == d} for d in ("none", "hardened", "jpeg")}
    swept = {("", 0, 0), ("transfer", 10, 1), ("transfer", 10, 3), ("transfer", 5, 3)}
    assert by_defence["none"] == swept | {("dirty-label", 0, 3)}
    assert by_defence["hardened"] == swept | {("white-box", 10, 3)}
    assert by_defence["jpeg"] == {("transfer", 10, 3)}


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_named_protocol_begins_without_poison(name):
    protocol = poisoning_protocol(name)
    assert {p.defence for p in points(protocol) if p.count == 0} == {"none", "hardened"}


# --- the images


def test_poisons_are_of_the_concept_within_the_budget_and_apart_from_clean_training(folder):
    made = bench(folder)
    poisons = made.poisons(Point("cat", "dog", "transfer", 10, 3, "none", 0))
    assert len(poisons) == 3 and torch.equal(poisons[0], poisons[2])  # two spare photographs, the first again
    spare = made.photographs["cat"][2:]
    moved = (poisons[:2, None] - spare).abs().flatten(2).amax(2).min(1).values * 255
    assert (moved.round() <= 10).all() and (moved > 0).all()
    clean, captions = made.clean()
    assert len(clean) == 6 and captions == ["a photo of a cat"] * 2 + ["a photo of a dog"] * 2 + ["a photo of a car"] * 2
    assert not any(torch.equal(x, y) for x in clean for y in poisons)
    of_one = bench(folder, dataclasses.replace(PROTOCOL, sources=1)).poisons(Point("cat", "dog", "transfer", 10, 3, "none", 0))
    assert torch.equal(of_one[0], of_one[1])


def test_dirty_labels_are_pictures_of_the_target(folder):
    made = bench(folder)
    assert torch.equal(made.poisons(Point("cat", "dog", "dirty-label", 0, 2, "none", 0)), made.photographs["dog"][2:])


def test_a_concept_that_the_judge_does_not_know_is_named(folder):
    other = dataclasses.replace(PROTOCOL, pairs=(Pair("cat", "horse"),))
    with pytest.raises(InputError, match="horse"):
        bench(folder, other)


def test_a_folder_of_too_few_photographs_is_named(folder):
    for file in ("2.png", "3.png"):
        (folder / "dogs" / file).unlink()
    with pytest.raises(InputError, match="dogs has 2 readable photographs, 3 are needed"):
        bench(folder)


def test_purified_images_are_kept_and_other_settings_are_another_point(folder, monkeypatch):
    arguments = (sd15(small_kl()), small_kl(), folder, folder.parent / "out", SmallClip(), SaysDog())
    few = dataclasses.replace(PROTOCOL, counts=(2,), kinds=("transfer",))
    poisoning(*arguments, few)
    ran: list[Point] = []
    monkeypatch.setattr(Poisoning, "tuned", lambda self, point, stepped: ran.append(point) or self.pipelines["original"])
    harder = dataclasses.replace(few, purifiers=(PurifierPlan("jpeg", settings={"quality": 10}),))
    poisoning(*arguments, harder)
    assert {point.defence for point in ran} == {"jpeg"}
    write_image(folder / "cars" / "5.png", torch.rand(3, 64, 64))
    ran.clear()
    rows = poisoning(*arguments, few)["rows"]
    assert len(ran) == len(rows), "other photographs make other points"


def test_a_sweep_that_was_cut_off_has_the_rows_so_far(folder, monkeypatch):
    arguments = (sd15(small_kl()), small_kl(), folder, folder.parent / "out", SmallClip(), SaysDog())

    def stop(point, number, total):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        poisoning(*arguments, PROTOCOL, stop)
    result = json.loads((folder.parent / "out" / "poisoning.json").read_text(encoding="utf-8"))
    assert len(result["rows"]) == 2 and result["points"] == len(list(points(PROTOCOL)))


# --- the sweep


def test_rows_say_what_the_judge_called_and_a_longer_sweep_keeps_them(folder, monkeypatch):
    arguments = (sd15(small_kl()), small_kl(), folder, folder.parent / "out", SmallClip(), SaysDog())
    result = poisoning(*arguments, PROTOCOL)
    said = [{key: value for key, value in row.items() if key not in ("judged", "seconds", "sheet")} for row in result["rows"]]
    assert said == [asdict(point) for point in points(PROTOCOL)]
    for row in (row["judged"] for row in result["rows"]):
        assert (row["target"], row["concept"], row["neither"], row["others"]) == (1, 0, 0, 0)
        assert (row["target_n"], row["others_n"], row["clip_t_n"]) == (3, 2, 2) and 0 < row["clip_t"] <= 1
    assert json.loads((folder.parent / "out" / "poisoning.json").read_text(encoding="utf-8")) == result
    sheets = {path.name for path in (folder.parent / "out" / "sheets").glob("*.webp")}
    assert sheets == {row["sheet"] for row in result["rows"]} and len(sheets) == len(result["rows"])
    assert any(name.startswith("cat-dog-transfer-10-3-none-0-") for name in sheets)
    tuned: list[Point] = []
    monkeypatch.setattr(Poisoning, "tuned", lambda self, point, stepped: tuned.append(point) or self.pipelines["original"])
    longer = dataclasses.replace(PROTOCOL, counts=(0, 2, 3))
    assert len(poisoning(*arguments, longer)["rows"]) > len(result["rows"])
    assert {point.count for point in tuned} == {2}


def test_without_poison_pairs_share_a_run_and_another_hardened_vae_leaves_the_others(folder, monkeypatch):
    pairs = dataclasses.replace(PROTOCOL, pairs=(Pair("cat", "dog"), Pair("dog", "car")), counts=(2,), kinds=("transfer",))
    ran: list[Point] = []
    monkeypatch.setattr(Poisoning, "_tuned", lambda self, point, stepped: ran.append(point) or self.pipelines["original"])

    def sweep(hardened):
        ran.clear()
        arguments = (sd15(small_kl()), hardened, folder, folder.parent / "out", SmallClip(), SaysDog())
        return len(poisoning(*arguments, pairs)["rows"])

    assert sweep(small_kl()) == 10 and sum(point.count == 0 for point in ran) == 2
    other = small_kl()
    other.model.encoder.conv_in.bias.data += 0.1
    assert sweep(other) == 10 and {point.defence for point in ran} == {"hardened"}


def brightness(x: torch.Tensor) -> torch.Tensor:
    """Evidence that is the same in both signs, and goes with nothing else."""
    mean = x.mean((1, 2, 3))
    return torch.stack([mean, mean, torch.zeros(len(x))], 1)


def test_scan_leaves_out_what_is_unlike_other_clean_photographs(folder, monkeypatch):
    made = bench(folder, dataclasses.replace(PROTOCOL, scan_rate=0.5))
    assert {(p.kind, p.count) for p in points(made.protocol) if p.defence == "scan"} == {("transfer", 3)}
    # Evidence by brightness: the darker half of clean photographs is kept, and nothing bright.
    monkeypatch.setattr(Poisoning, "_evidence", lambda self, x: brightness(x))
    dark, bright = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    x, captions = made._defended(torch.cat([bright, dark]), ["bright", "dark"], Point("cat", "dog", "", 0, 0, "scan", 0))
    assert torch.equal(x, dark) and captions == ["dark"]


def test_poison_is_kept_for_the_same_weights_in_another_folder(folder, monkeypatch):
    point = Point("cat", "dog", "transfer", 10, 2, "none", 0)
    made = bench(folder)
    poisons = made.poisons(point)
    made.pipelines["original"].pipe.register_to_config(_name_or_path="moved")
    monkeypatch.setattr("srlvae.attacks.prepared.PreparedAttack.perturb", lambda *_: pytest.fail("made again"))
    assert torch.equal(made.poisons(point), poisons)


def test_scan_looks_at_an_image_once(folder, monkeypatch):
    made, looked = bench(folder), []

    def means(original, hardened, x):
        looked.extend(x)
        return brightness(x)

    monkeypatch.setattr("srlvae.bench.poisoned.evidence", means)
    x = made.photographs["cat"]
    found = made._evidence(torch.cat([x, x]))
    assert len(looked) == len(x) and torch.equal(found, torch.cat([made._evidence(x)] * 2))
    assert len(looked) == len(x)
