"""The poisoning benchmark: the plan, what goes into a fine-tuning, what the judge is asked, and sweeps that go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from conftest import small_kl
from pipelines import little
from srlvae.attacks.engine.trace import Trace
from srlvae.bench.cache import Cache
from srlvae.bench.load_protocol import poisoning_protocol
from srlvae.bench.poison_defences import ScanFilter, TrainingDefences
from srlvae.bench.poison_tuning import Tuning
from srlvae.bench.poisoning import Sweep, doubts_of, poisoning, sheet_name, tunings
from srlvae.bench.poisons import Poison, Poisons, prompt_of
from srlvae.bench.protocol import ChosenPurifier, Concept, Pair, PoisoningProtocol
from srlvae.bench.rows import read_rows
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import write_image
from srlvae.metrics.judge import Judge
from srlvae.report.page import write_report
from srlvae.report.rows import measured_value
from twins import NervousJudge, SmallClip, hardened_twin, other_decoder

PROTOCOL = PoisoningProtocol(
    pipeline="sd15",
    hardened="hardened",
    concepts=(Concept("cats", "cat"), Concept("dogs", "dog"), Concept("cars", "car")),
    pairs=(Pair("cat", "dog"),),
    counts=(0, 3),
    seeds=(0,),
    purifiers=(ChosenPurifier("jpeg"),),
    clean_each=2,
    attack_steps=1,
    steps=1,
    batch_size=2,
    generated=3,
    others=2,
    denoising_steps=2,
)


class SaysDog(Judge):
    """Calls everything a dog."""

    def __init__(self):
        self.concepts = ["cat", "dog", "car", "bird"]

    def fingerprint(self):
        return "dog"

    def predict(self, x):
        return torch.ones(len(x), dtype=torch.long)


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, name in enumerate(("cats", "dogs", "cars")):
        for i in range(4):
            picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(10 * k + i))
            write_image(tmp_path / "photographs" / name / f"{i}.png", F.interpolate(picture[None], 64)[0])
    return tmp_path / "photographs"


TEN = 10 / 255
FEW = dataclasses.replace(PROTOCOL, counts=(2,), white_box=False, dirty_label=False)


def made_of(folder: Path, protocol=PROTOCOL) -> Poisons:
    pipeline = little(small_kl())
    pipelines = {"original": pipeline, "hardened": pipeline.with_vae(small_kl())}
    return Poisons(pipelines, folder, SmallClip(), protocol, Cache(folder.parent / "cache", 2))


def test_sources_are_the_spare_photographs_that_clip_finds_most_typical(folder):
    made = made_of(folder, dataclasses.replace(PROTOCOL, sources=1))
    spare, clip = made.spare("cat")[:], SmallClip()
    found = clip.images(spare) @ clip.texts([prompt_of("cat")])[0]
    assert found[0] != found[1] and torch.equal(made.sources("cat"), spare[[int(found.argmax())]])


def nightshade(number: int, made_on: str = "original") -> Poison:
    return Poison("cat", "dog", "nightshade", TEN, number, made_on)


def sweep(folder: Path, protocol=PROTOCOL, hardened=None, listener: Listener | None = None) -> dict:
    models = little(small_kl()), hardened or small_kl()
    return poisoning(*models, folder, folder.parent / "out", SmallClip(), SaysDog(), protocol, listener)


class Tunings(Listener):
    """Remembers the fine-tunings that were run, and not found, as their rows are called. It may crash after a row."""

    def __init__(self, crash_at: int | None = None):
        self.tuned: list[str] = []
        self.crash_at, self.has_stepped = crash_at, False

    def at(self, bar, number, total=None, note=""):
        if bar == "steps":
            self.has_stepped = True
        if bar == "rows":
            self.tuned += [note] * self.has_stepped
            self.has_stepped = False
            if number == self.crash_at:
                raise RuntimeError("power cut")


def tuned_in(folder: Path, protocol=PROTOCOL, hardened=None) -> list[str]:
    """The fine-tunings that a sweep runs, of all that it has rows of."""
    heard = Tunings()
    rows = sweep(folder, protocol, hardened, heard)["rows"]
    assert len(rows) == len(list(tunings(protocol)))
    return heard.tuned


# --- the plan


def test_transfer_is_swept_and_what_is_compared_has_the_largest_count_and_budget():
    plan = list(tunings(dataclasses.replace(PROTOCOL, counts=(0, 1, 3), eps=(5 / 255, TEN))))
    assert len(plan) == len(set(plan))

    def poisons(defence: str) -> set[tuple]:
        own = [tuning.poison for tuning in plan if tuning.defence == defence]
        return {(p.attack, p.made_on, p.eps, p.number) for p in own}

    swept = {("none", "", 0, 0), *(("nightshade", "original", *found) for found in ((TEN, 1), (TEN, 3), (5 / 255, 3)))}
    assert poisons("none") == swept | {("dirty-label", "", 0, 3)}
    assert poisons("hardened") == swept | {("nightshade", "hardened", TEN, 3)}
    assert poisons("jpeg") == {("nightshade", "original", TEN, 3)}


def test_poison_made_on_the_original_is_white_box_to_it_as_in_editing():
    access = {defence: nightshade(3).access(defence) for defence in ("none", "hardened", "jpeg", "scan")}
    assert access == {"none": "white-box", "hardened": "transfer", "jpeg": "transfer", "scan": "transfer"}
    assert nightshade(3, "hardened").access("hardened") == "white-box"
    assert Poison("cat", "dog", "dirty-label", 0.0, 3, "").access("none") == "none"


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_named_protocol_begins_without_poison(name):
    protocol = poisoning_protocol(name)
    assert {t.defence for t in tunings(protocol) if not t.poison.number} == {"none", "hardened"}


def test_nightshade_with_more_steps_is_tried_at_the_largest_count_and_budget_with_either_vae():
    plan = list(tunings(dataclasses.replace(PROTOCOL, counts=(1, 3), eps=(5 / 255, TEN), attack_steps=80, more_steps=40)))
    longer = [tuning for tuning in plan if tuning.poison.steps]
    assert {(t.defence, t.poison.made_on, t.poison.eps, t.poison.number) for t in longer} == {
        (defence, "original", TEN, 3) for defence in ("none", "hardened")
    }
    said = longer[0].condition()
    assert (said["attack"], said["of"], said["steps"]) == ("nightshade, 120 steps", "nightshade", 120)
    assert str(longer[0]) == "cat → dog, 3 nightshade, 120 steps 10/255 white-box, none, seed 0"


# --- the images


def test_poisons_are_of_the_concept_within_the_budget_and_apart_from_clean_training(folder):
    made = made_of(folder)
    poisons = made.images(nightshade(3))
    assert len(poisons) == 3 and torch.equal(poisons[0], poisons[2])  # two spare photographs, the first again
    spare = made.photographs["cat"][2:]
    moved = (poisons[:2, None] - spare).abs().flatten(2).amax(2).min(1).values * 255
    assert (moved.round() <= 10).all() and (moved > 0).all()
    clean, captions = made.clean()
    assert len(clean) == 6 and captions == ["a photo of a cat"] * 2 + ["a photo of a dog"] * 2 + ["a photo of a car"] * 2
    assert not any(torch.equal(x, y) for x in clean for y in poisons)
    of_one = made_of(folder, dataclasses.replace(PROTOCOL, sources=1)).images(nightshade(3))
    assert torch.equal(of_one[0], of_one[1])


def test_dirty_labels_are_pictures_of_the_target(folder):
    made = made_of(folder)
    assert torch.equal(made.images(Poison("cat", "dog", "dirty-label", 0.0, 2, "")), made.photographs["dog"][2:])


def test_a_concept_that_the_judge_does_not_know_is_named(folder):
    with pytest.raises(InputError, match="horse"):
        sweep(folder, dataclasses.replace(PROTOCOL, pairs=(Pair("cat", "horse"),)))


def test_a_folder_without_the_classes_is_told_what_the_protocol_takes(folder):
    (folder / "dogs").rename(folder / "other")
    with pytest.raises(InputError, match="has no folder dogs; the protocol takes a folder .* for each of: cats, dogs"):
        made_of(folder)


def test_a_folder_of_too_few_photographs_is_named(folder):
    for file in ("2.png", "3.png"):
        (folder / "dogs" / file).unlink()
    with pytest.raises(InputError, match="dogs has 2 readable photographs, 3 are needed"):
        made_of(folder)


def test_purified_images_are_kept_and_other_settings_are_another_fine_tuning(folder):
    assert len(tuned_in(folder, FEW)) == len(list(tunings(FEW)))
    other = dataclasses.replace(FEW, purifiers=(ChosenPurifier("jpeg", settings={"quality": 10}),))
    assert tuned_in(folder, other) == ["cat → dog, 2 nightshade 10/255 transfer, jpeg, seed 0"]
    # Networks count by their weights.
    assert tuned_in(folder, dataclasses.replace(FEW, clip="elsewhere", judge="elsewhere")) == []
    write_image(folder / "cars" / "5.png", torch.rand(3, 64, 64))
    assert len(tuned_in(folder, FEW)) == len(list(tunings(FEW))), "other photographs make other fine-tunings"


def test_each_setting_of_training_and_judging_and_the_judge_make_another_fine_tuning(folder):
    changes = {"steps": 2, "attack_steps": 2, "learning_rate": 0.5, "batch_size": 1, "generated": 4, "clean_each": 1}
    protocols = [FEW, *(dataclasses.replace(FEW, **{key: value}) for key, value in changes.items())]
    sweeps = [Sweep(made_of(folder, protocol), SaysDog(), folder.parent) for protocol in protocols]
    sweeps.append(Sweep(sweeps[0].poisons, NervousJudge(), folder.parent))
    planned = next(tunings(FEW))
    assert len({sweep.key(planned) for sweep in sweeps}) == len(sweeps)


def test_a_fine_tuning_belongs_to_the_hardened_vae_if_its_defence_looks_with_it(folder):
    one, other = (made_of(folder, dataclasses.replace(FEW, scan_rate=0.5, clean_each=1)) for _ in range(2))
    other.pipelines["hardened"] = other.pipelines["original"].with_vae(hardened_twin())
    sweeps = [Sweep(poisons, SaysDog(), folder.parent) for poisons in (one, other)]
    for defence, count in (("none", 1), ("hardened", 2), ("scan", 2)):
        assert len({sweep.key(Tuning(nightshade(2), defence, 0)) for sweep in sweeps}) == count


def test_a_sweep_that_was_cut_off_has_the_rows_so_far_and_runs_the_others_when_it_goes_on(folder):
    with pytest.raises(RuntimeError, match="power cut"):
        sweep(folder, listener=Tunings(crash_at=2))
    result = json.loads((folder.parent / "out" / "poisoning.json").read_text(encoding="utf-8"))
    assert len(read_rows(result["rows"])) == 2 and result["points"] == len(list(tunings(PROTOCOL)))
    assert tuned_in(folder) == [str(tuning) for tuning in tunings(PROTOCOL)][2:]
    assert tuned_in(folder) == []


# --- the sweep


def test_rows_say_what_the_judge_called_and_a_longer_sweep_keeps_them(folder):
    result = sweep(folder)
    rows = read_rows(result["rows"])
    wanted = [(t.condition(), t.poison.access(t.defence), t.defence) for t in tunings(PROTOCOL)]
    assert [(row.condition, row.access, row.defence) for row in rows] == wanted
    for row in rows:
        assert [measured_value(row, measure) for measure in ("target", "concept", "neither", "others")] == [1, 0, 0, 0]
        assert [row.measures[measure].n for measure in ("target", "others", "clip_t")] == [3, 2, 2]
        assert 0 < measured_value(row, "clip_t") <= 1 and row.n == 3
    assert json.loads((folder.parent / "out" / "poisoning.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    sheets = {path.name for path in (folder.parent / "out" / "sheets").glob("*.webp")}
    assert sheets == {sheet_name(row.condition, row.access, row.defence) for row in rows} and len(sheets) == len(rows)
    assert "cat-dog-nightshade-10_255-3-white-box-none-0.webp" in sheets
    longer = dataclasses.replace(PROTOCOL, counts=(0, 2, 3))
    assert tuned_in(folder, longer) == [str(t) for t in tunings(longer) if t.poison.number == 2] != []


def test_without_poison_pairs_share_a_run_and_another_hardened_vae_leaves_the_others(folder):
    pairs = dataclasses.replace(FEW, pairs=(Pair("cat", "dog"), Pair("dog", "car")))
    planned = list(tunings(pairs))
    shared = [str(t) for t in planned if not t.poison.number and t.poison.concept == "dog"]
    # Their rows are measured, on the pipelines that the first pair has tuned.
    assert tuned_in(folder, pairs) == [str(t) for t in planned if str(t) not in shared] and len(shared) == 2
    hardened = [str(t) for t in planned if t.defence == "hardened"]
    assert tuned_in(folder, pairs, hardened_twin()) == [one for one in hardened if one not in shared]


def brightness(x: torch.Tensor) -> torch.Tensor:
    """Evidence that is the same in both signs, and goes with nothing else."""
    mean = x.mean((1, 2, 3))
    return torch.stack([mean, mean, torch.zeros(len(x))], 1)


def test_scan_leaves_out_what_is_unlike_other_clean_photographs(folder, monkeypatch):
    poisons = made_of(folder, dataclasses.replace(PROTOCOL, scan_rate=0.5, clean_each=1))
    scanned = [tuning.poison for tuning in tunings(poisons.protocol) if tuning.defence == "scan"]
    assert {(poison.made_on, poison.number) for poison in scanned} == {("original", 3)}
    # Evidence by brightness: the darker half of clean photographs is kept, and nothing bright.
    monkeypatch.setattr(ScanFilter, "evidence", lambda self, x: brightness(x))
    dark, bright = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    images = torch.cat([bright, dark])
    x, captions = TrainingDefences(poisons).apply("scan", "cat", 0, images, ["bright", "dark"])
    assert torch.equal(x, dark) and captions == ["dark"]


def test_poison_is_kept_for_the_same_weights_in_another_folder(folder, monkeypatch):
    made = made_of(folder)
    poisons = made.images(nightshade(2))
    made.pipelines["original"].pipe.register_to_config(_name_or_path="moved")
    monkeypatch.setattr("srlvae.attacks.prepared.PreparedAttack.perturb", lambda *_: pytest.fail("made again"))
    assert torch.equal(made.images(nightshade(2)), poisons)


def test_scan_looks_at_an_image_once(folder, monkeypatch):
    made, looked = made_of(folder), []

    def means(original, hardened, x):
        looked.extend(x)
        return brightness(x)

    monkeypatch.setattr("srlvae.bench.poison_defences.evidence", means)
    scan = ScanFilter({name: pipe.vae for name, pipe in made.pipelines.items()}, 0.5)
    x = made.photographs["cat"][:]
    found = scan.evidence(torch.cat([x, x]))
    assert len(looked) == len(x) and torch.equal(found, torch.cat([scan.evidence(x)] * 2))
    assert len(looked) == len(x)


# --- whether Nightshade has converged


def test_a_trace_says_how_far_the_objective_fell_in_the_last_quarter():
    trace = Trace()
    for value in (10.0, 8.0, 6.0, 5.0, 4.0, 4.0, 4.0, 3.0):
        trace(torch.tensor([value, 2.0, -value]), None)
    # Of eight steps the last quarter goes from the sixth, 4, to the eighth, 3.
    assert [trace.fell_at_last(i) for i in range(3)] == [0.25, 0.0, None]
    assert Trace().fell_at_last(0) is None


def test_an_objective_that_still_falls_is_a_doubt():
    still, flat = ({"doubts": ["a reason"], "fell": fell} for fell in (0.12, 0.05))
    assert doubts_of(still) == ["a reason", "the objective still fell by 12% in the last quarter of the steps"]
    assert doubts_of(flat) == ["a reason"] == doubts_of({**flat, "fell": None})


def test_rows_of_nightshade_say_how_far_its_objective_still_fell(folder):
    protocol = dataclasses.replace(FEW, attack_steps=4, more_steps=4)
    rows, made = read_rows(sweep(folder, protocol)["rows"]), made_of(folder, protocol)
    for tuning, row in zip(tunings(protocol), rows, strict=True):
        notes = [note["fell"] for note in made.notes(tuning.poison)]
        assert len(notes) == (2 if tuning.poison.number else 0) == (row.measures["fell"].n if "fell" in row.measures else 0)
        if notes:
            assert row.measures["fell"].value == pytest.approx(sum(notes) / 2)
            assert len(row.doubts) >= sum(fell > 0.05 for fell in notes)
    longer, usual = (made.notes(dataclasses.replace(nightshade(2), steps=steps)) for steps in (8, 0))
    assert longer[0]["steps"] == 8 and usual[0]["steps"] == 4


def test_vaes_that_do_not_belong_together_are_a_doubt_on_the_page(folder):
    result = sweep(folder, FEW, other_decoder())
    page = write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert "do not share a decoder" in result["doubts"][0] and result["doubts"][0] in page


@pytest.mark.parametrize("key", ["seeds", "pairs", "concepts", "counts", "eps"])
def test_what_would_be_measured_twice_is_refused(key):
    given = getattr(poisoning_protocol("quick"), key)
    with pytest.raises(InputError, match=f"{key} has .* twice"):
        poisoning_protocol("quick", **{key: (*given, given[0])})
