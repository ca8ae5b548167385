"""The mimicry benchmark: styles, the judge of styles, the plan, and runs that go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from conftest import small_kl
from pipelines import little
from srlvae.bench import mimicry as module
from srlvae.bench.load_protocol import mimicry_protocol
from srlvae.bench.mimicry import mimicry, mimics, sheet_name
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.protocol import ChosenAttack, ChosenPurifier, Concept
from srlvae.bench.rows import as_data, read_rows
from srlvae.bench.styles import STYLES, Style, classes_of, fit_style_probe, renderings
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import write_image
from srlvae.metrics.features import load_features
from srlvae.metrics.judge import Judge
from srlvae.metrics.shares import clustered_interval
from srlvae.report.mimicry import mimicry_table, over_styles
from srlvae.report.page import write_report
from srlvae.report.rows import find_row, find_rows
from twins import PooledFeatures, hardened_twin, other_decoder

PROTOCOL = MimicryProtocol(
    pipeline="sd15",
    hardened="hardened",
    styles=(Style("halftone", 4), Style("cartoon")),
    attacks=(ChosenAttack("photoguard-encoder", (10 / 255,), steps=1, white_box=True),),
    concepts=(Concept("cats", "cat"), Concept("dogs", "dog")),
    purifiers=(ChosenPurifier("jpeg"),),
    each=1,
    judged=2,
    held_out=1,
    steps=1,
    batch_size=2,
    generated=1,
    denoising_steps=1,
)
FEW = dataclasses.replace(PROTOCOL, styles=PROTOCOL.styles[:1])


def smooth(count: int, first: int = 0) -> torch.Tensor:
    """Smooth random pictures, which stand for photographs."""
    draws = [torch.Generator().manual_seed(first + i) for i in range(count)]
    coarse = torch.stack([torch.rand(3, 6, 6, generator=draw) for draw in draws])
    return F.interpolate(coarse, 64, mode="bicubic").clamp(0, 1)


@pytest.fixture(autouse=True)
def features(monkeypatch):
    monkeypatch.setattr(module, "load_features", lambda name: PooledFeatures())


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, name in enumerate(("cats", "dogs")):
        for i, picture in enumerate(smooth(4, 10 * k)):
            write_image(tmp_path / "photographs" / name / f"{i}.png", picture)
    return tmp_path / "photographs"


class Heard(Listener):
    """Remembers the fine-tunings that were run, and not found. It may crash after a row."""

    def __init__(self, crash_at: int | None = None):
        self.tuned: list[str] = []
        self.crash_at, self.has_stepped = crash_at, False

    def at(self, bar, number, total=None, note=""):
        self.has_stepped |= bar == "steps"
        if bar == "rows":
            self.tuned += [note] * self.has_stepped
            self.has_stepped = False
            if number == self.crash_at:
                raise RuntimeError("power cut")


def run(folder: Path, protocol=PROTOCOL, hardened=None, listener: Listener | None = None) -> dict:
    return mimicry(little(small_kl()), hardened or small_kl(), folder, folder.parent / "out", protocol, listener)


def tuned_in(folder: Path, protocol=PROTOCOL, hardened=None) -> list[str]:
    heard = Heard()
    run(folder, protocol, hardened, heard)
    return heard.tuned


# --- styles and their judge


def test_a_style_is_one_hand_whatever_stands_beside_a_photograph():
    x = smooth(3)
    for kind in STYLES:
        style = Style(kind, 2)
        y = style.render(x)
        assert torch.equal(y, style.render(x)) and torch.equal(y[1:], style.render(x[1:]))
        assert y.shape == x.shape and torch.equal((y * 255).round() / 255, y) and not torch.equal(y, x)
        assert any(not torch.equal(y, Style(kind, seed).render(x)) for seed in range(3, 7)), "other seeds are other hands"


def test_no_two_styles_are_alike():
    found = [Style(kind).render(smooth(2)) for kind in STYLES]
    apart = [(a - b).abs().mean().item() for i, a in enumerate(found) for b in found[:i]]
    assert min(apart) > 0.03


def test_the_judge_tells_renderings_of_other_photographs_apart():
    styles = (Style("halftone", 4), Style("cartoon"), Style("pencil sketch", 1))
    features = load_features("efficientnet-lite1")
    probe = fit_style_probe(styles, [smooth(8), smooth(8, 100)], features)
    judge = Judge(classes_of(styles), features, *probe, size=64)
    assert judge.concepts == ["photograph", "halftone", "cartoon", "pencil sketch"]
    for number, x in enumerate(renderings(styles, smooth(8, 200))):
        assert (judge.predict(x) == number).float().mean() > 0.8


# --- the plan and the protocol


def test_every_protection_meets_every_method_and_white_box_meets_the_hardened_vae_alone():
    plan = list(mimics(dataclasses.replace(FEW, seeds=(0, 7))))
    assert len(plan) == len(set(plan)) == 2 * (3 + 3 + 1)
    found = {(m.cell.attack, m.cell.made_on, m.defence, m.access()) for m in plan}
    clean = {("none", "", defence, "none") for defence in ("none", "hardened", "jpeg")}
    named = "photoguard-encoder"
    transfer = {(named, "original", "none", "white-box"), *((named, "original", d, "transfer") for d in ("hardened", "jpeg"))}
    assert found == clean | transfer | {(named, "hardened", "hardened", "white-box")}


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_named_protocol_has_eighteen_pictures_of_three_styles_and_more_and_four_methods(name):
    protocol = mimicry_protocol(name)
    assert protocol.each * len(protocol.concepts) == 18 and len(protocol.styles) >= 3 and len(protocol.purifiers) == 3
    assert {"glaze", "mist-textural", "anti-dreambooth"} <= {chosen.name for chosen in protocol.attacks}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "cartoon"', 'kind = "fresco"', "unknown style 'fresco'"),
        ('kind = "pencil sketch"', 'kind = "cartoon"', "style 'cartoon' is listed twice"),
        ('name = "glaze", eps', 'name = "glaze", starts = [2], eps', "glaze: variants of attacks"),
        ('name = "glaze", eps = ["16/255"]', 'name = "glaze", eps = []', "eps must not be empty"),
        ("seed = 3", "seed = -1", "cartoon: seed"),
        ('name = "jpeg"', 'name = "diffpure", source = "a"', "diffpure needs a model of its own"),
        ('name = "jpeg"', 'name = "jpeg", draws = 3', "settings and a name are all that this benchmark looks at"),
        ("generated = 1", "generated = 0", "generated"),
        ("generated = 1", 'features = "vgg"', "unknown feature network 'vgg'"),
    ],
)
def test_what_is_wrong_in_a_protocol_is_named(old, new, said, tmp_path):
    text = (Path(module.__file__).parent / "protocols" / "mimicry" / "quick.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        mimicry_protocol(str(tmp_path / "mine.toml"))


def test_a_folder_of_too_few_photographs_is_named(folder):
    (folder / "dogs" / "2.png").unlink()
    with pytest.raises(InputError, match="dogs has 3 readable photographs, 4 are needed"):
        run(folder)


# --- runs


def test_a_run_that_was_cut_off_has_the_rows_so_far_and_runs_the_others_when_it_goes_on(folder):
    with pytest.raises(RuntimeError, match="power cut"):
        run(folder, listener=Heard(crash_at=4))
    result = json.loads((folder.parent / "out" / "mimicry.json").read_text(encoding="utf-8"))
    planned = list(mimics(PROTOCOL))
    # Three methods without protection, the best of two of them, and one more fine-tuning.
    assert len(read_rows(result["rows"])) == 5 and result["points"] == len(planned)
    assert "10 points are still to be run" in write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert tuned_in(folder) == [str(mimic) for mimic in planned][4:]
    assert tuned_in(folder) == []
    page = write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert "still to be run" not in page and page.count("<summary>") == len(planned) + 1
    sheets = {path.name for path in (folder.parent / "out" / "sheets").glob("*.webp")}
    assert sheets == {sheet_name(mimic.condition(), mimic.access(), mimic.defence) for mimic in planned}


def test_other_settings_run_what_they_concern_and_nothing_else(folder):
    plan = [str(mimic) for mimic in mimics(FEW)]
    assert tuned_in(folder, FEW) == plan
    jpeg = dataclasses.replace(FEW, purifiers=(ChosenPurifier("jpeg", settings={"quality": 10}),))
    assert tuned_in(folder, jpeg) == [one for one in plan if "jpeg" in one]
    longer = dataclasses.replace(FEW, attacks=(dataclasses.replace(FEW.attacks[0], steps=2),))
    assert tuned_in(folder, longer) == [one for one in plan if "photoguard" in one]
    assert tuned_in(folder, FEW, hardened_twin()) == [one for one in plan if "hardened" in one]
    other = dataclasses.replace(FEW, steps=2)
    assert tuned_in(folder, other) == plan


# --- the table


def test_the_table_pools_styles_and_says_what_is_missing(folder):
    result = run(folder)
    header, lines = mimicry_table(result)
    assert header == ["protection", "the mimic's method", "halftone", "cartoon", "all styles", "probability"]
    methods = ["no defence", "hardened", "jpeg", "best of 2"]
    attack = "photoguard-encoder, 10/255"
    wanted = [["photographs, rendered", ""], ["not fine-tuned", ""], *(["not protected", method] for method in methods)]
    wanted += [*([attack, method] for method in methods), [f"{attack}, white-box", "hardened"]]
    assert sorted(line[:2] for line in lines) == sorted(wanted)
    rows = find_rows(read_rows(result["rows"]), attack="none", defence="none")
    shares = [row.measures["in_style"].value for row in rows]
    pooled = over_styles(rows)
    assert (pooled.value, pooled.n) == (sum(shares) / 2, 4) and (pooled.low, pooled.high) == clustered_interval(
        [[share] for share in shares], 4
    )
    one = {**result, "rows": as_data([find_row(rows, style="cartoon")])}
    one["rows"] += as_data(find_rows(read_rows(result["rows"]), attack="photoguard-encoder"))
    header, lines = mimicry_table(one)
    (line,) = [line for line in lines if line[0] == "not protected"]
    assert header[2:4] == ["cartoon", "halftone"] and line[2].endswith(" %") and line[3] == ""


def test_vaes_that_do_not_belong_together_are_a_doubt_on_the_page(folder):
    result = run(folder, FEW, other_decoder())
    page = write_report([folder.parent / "out"]).read_text(encoding="utf-8")
    assert "do not share a decoder" in result["doubts"][0] and result["doubts"][0] in page


@pytest.mark.parametrize("key", ["seeds", "concepts"])
def test_what_would_be_measured_twice_is_refused(key):
    given = getattr(mimicry_protocol("quick"), key)
    with pytest.raises(InputError, match=f"{key} has .* twice"):
        mimicry_protocol("quick", **{key: (*given, given[0])})
