"""The benchmark of speed: ways have turns, medians and intervals are those of the times, and every way does the work."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import AutoencoderDC
from scipy.stats import binom

from conftest import small_kl, small_tiny
from heard import Heard
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.bench.rows import as_data, read_rows
from srlvae.errors import InputError
from srlvae.harden.trainer import Trainer
from srlvae.images import write_image
from srlvae.models.vae import VAE
from srlvae.report.speed import billion_table, gpu_table, growth_table, speed_table
from srlvae.speed import PARTS, SpeedSettings, attacks, metrics, speed
from srlvae.speed.hardening import hardening_works
from srlvae.speed.rounds import Work, median_estimate, processor_seconds, rows_of_work
from srlvae.speed.run import works
from srlvae.speed.scanning import ALONE, DECODING, scan_works
from srlvae.speed.starting import start, starting_works

BALL = Ball(eps=8 / 255, steps=6, step_size=2 / 255)


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now, self.turns = 0.0, list[str]()

    def way(self, name: str, *seconds: float):
        """A way that takes so long in one round after another, beginning with the one that does not count."""
        left = iter(seconds)

        def work() -> None:
            self.turns.append(name)
            self.now += next(left)

        return work

    def __call__(self) -> float:
        return self.now


def test_ways_have_turns_and_are_compared_within_rounds():
    clock = Clock()
    ways = {"ours": clock.way("ours", 99, 1, 2, 4), "theirs": clock.way("theirs", 99, 3, 4, 40)}
    ours, theirs = rows_of_work(Work("work", 2, ways, "theirs", "latent", "8/255"), 3, clock)
    assert clock.turns == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (ours.measures["seconds"].value, ours.measures["seconds"].low, ours.measures["seconds"].high) == (1, 0.5, 2)
    # 3/1, 4/2 and 40/4: the median of quotients is not the quotient of medians, which is 2.
    assert ours.measures["faster"].value == 3 and theirs.measures.keys() == {"seconds"}
    assert ours.n == 2 and ours.condition == {"attack": "latent", "eps": "8/255", "work": "work", "way": "ours"}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 8, 9, 11, 12, 20, 51])
def test_the_interval_of_a_median_is_the_narrowest_that_holds_it_often_enough(n):
    found = median_estimate([float(i) for i in range(n)])
    assert found.value == (n - 1) / 2 and found.n == n and found.low is not None and found.high == n - 1 - found.low
    k = int(found.low)
    # The median lies outside if at most k of n values are on one side of it.
    assert k == 0 or 2 * binom.cdf(k, n, 0.5) <= 0.05
    assert k + 1 >= n / 2 or 2 * binom.cdf(k + 1, n, 0.5) > 0.05


def test_seconds_of_processes_that_were_waited_for_count(tmp_path):
    before = processor_seconds()
    found = {work.name: work for work in starting_works("tiny", torch.zeros(1, 3, 16, 16), tmp_path)}
    found["import srlvae"].ways["from nothing"]()
    assert 0.005 < processor_seconds() - before < 20


@pytest.mark.parametrize("build", [small_kl, small_tiny])
@pytest.mark.parametrize(("loop", "name"), [(attacks.photoguard, "photoguard-encoder"), (attacks.mist, "mist-textural")])
def test_the_published_loops_do_what_ours_do(build, loop, name, x):
    vae = build()
    goal = 0.0 if name == "photoguard-encoder" else vae.mean(attacks.texture(*x.shape[2:])[:1])

    def value(z):
        return (vae.mean(z) - goal).square().sum()

    theirs = loop(x[:1], vae, BALL)
    assert theirs.min() >= 0 and theirs.max() <= 1 and (theirs - x[:1]).abs().max() <= BALL.eps + 1e-6
    ours = ATTACKS[name].run(x[:1], vae=vae, generators=[torch.Generator().manual_seed(0)], ball=BALL)
    clean, attacked = value(x[:1]), value(theirs)
    assert attacked < clean and (clean - attacked) > 0.5 * (clean - value(ours))


def test_attacks_are_timed_in_batches_one_by_one_and_as_published(x):
    found = attacks.attack_works(small_tiny(), x, 1)
    assert [list(work.ways) for work in found] == [["a batch of 2", "one by one", "the published loop"]] * 2 + [
        ["a batch of 2", "one by one"]
    ]
    assert [work.reference for work in found] == ["the published loop", "the published loop", "one by one"]
    for work in found:
        made = [torch.as_tensor(run()) for run in work.ways.values()]
        assert all(one.shape == x.shape and not torch.equal(one, x) for one in made)
        assert torch.allclose(made[0], made[1], atol=1e-5)


def test_attacks_on_any_size_and_on_encoders_whose_output_has_another_name_are_timed():
    model = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types=("ResBlock",) * 2,
        decoder_block_types=("ResBlock",) * 2,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )
    for work in attacks.attack_works(VAE(model.eval().requires_grad_(False)), torch.rand(2, 3, 17, 18), steps=1):
        shapes = {way().shape for way in work.ways.values()}
        assert len(shapes) == 1


def test_steps_of_hardening_go_on_from_turn_to_turn(monkeypatch):
    steps: list[int] = []

    def step(self, progress, place, taken=Trainer.step):
        losses = taken(self, progress, place)
        steps.append(progress.step)
        return losses

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr("srlvae.speed.hardening.STEPS", 2)
    monkeypatch.setattr("srlvae.speed.hardening.SIDE", 32)
    monkeypatch.setattr("srlvae.speed.hardening.OBJECTIVES", ("srl",))
    original = small_tiny()
    before = [parameter.clone() for parameter in original.model.parameters()]
    (work,) = hardening_works(original, torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    for run in work.ways.values():
        run(), run()
    assert steps == [1, 2, 3, 4] and work.images == 8
    assert all(map(torch.equal, before, original.model.parameters()))


def test_a_scan_is_timed_as_a_whole_and_its_decoding_alone(tmp_path, monkeypatch):
    one, other = small_tiny(), small_tiny()
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr("srlvae.scan.look.Encoders.look", lambda self, x: seen.append((self.precision, len(x))))
    next(other.model.parameters()).data.mul_(1.1)
    (work,) = scan_works(one, other, torch.rand(3, 3, 32, 32), tmp_path)
    for run in work.ways.values():
        run()
    assert {count for _, count in seen} == {3} and ("no", 3) in seen
    assert work.reference == ALONE and DECODING in work.ways and len(list(tmp_path.glob("*.jpg"))) == 3


def test_metrics_are_compared_where_others_are_installed(monkeypatch):
    real = metrics.importlib.import_module

    def only(*there: str):
        def found(name: str):
            if name.split(".")[0] not in there and name in metrics.OTHERS.values():
                raise ImportError(name)
            return ModuleType(name) if name in metrics.OTHERS.values() else real(name)

        return found

    monkeypatch.setattr(metrics.importlib, "import_module", only())
    found, skipped = metrics.metric_works()
    assert [list(work.ways) for work in found] == [["srlvae"]] * 2 and len(skipped) == 2
    assert all(said.startswith(name) for said, name in zip(skipped, metrics.OTHERS, strict=True))
    monkeypatch.setattr(metrics.importlib, "import_module", only("torchmetrics"))
    monkeypatch.setattr(metrics, "torchmetrics", lambda package: (lambda x, y: 1.0, lambda x, y: 2.0))
    found, skipped = metrics.metric_works()
    assert [list(work.ways) for work in found] == [["srlvae", "torchmetrics"]] * 2 and len(skipped) == 1
    assert [work.ways["torchmetrics"]() for work in found] == [1, 2]


@pytest.mark.parametrize(
    ("package", "of"), [("torch_fidelity", metrics.fidelity), ("torchmetrics.image", metrics.torchmetrics)]
)
def test_others_distances_are_ours(package, of):
    others = of(pytest.importorskip(package))
    x, y = (features[:100, :64] for features in metrics.features())
    ours = metrics.frechet_distance(x, y), metrics.kernel_distance(x, y)
    assert [other(x, y) for other in others] == pytest.approx(ours, rel=1e-4)


# --- the benchmark


@pytest.fixture
def photographs(tmp_path) -> Path:
    (tmp_path / "photographs").mkdir()
    for i in range(3):
        write_image(tmp_path / "photographs" / f"{i}.png", torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(i)))
    return tmp_path / "photographs"


def fake(part, settings, x, place, skipped):
    if part == "metrics":
        skipped.append("nothing to compare with")
    yield Work(part, len(x), {"ours": lambda: None, "theirs": lambda: None}, "theirs")


def test_the_result_has_a_row_for_each_way_and_says_what_was_left_out(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr("srlvae.speed.run.works", fake)
    heard = Heard()
    result = speed(photographs, tmp_path / "out", SpeedSettings(rounds=2, images=2, size=16), "cpu", heard)
    assert json.loads((tmp_path / "out" / "speed.json").read_text()) == result
    rows = read_rows(result["rows"])
    assert [(row.condition["work"], row.condition["way"]) for row in rows] == [
        (p, w) for p in PARTS for w in ("ours", "theirs")
    ]
    assert result["skipped"] == ["nothing to compare with"] and result["protocol"]["images"] == rows[0].n == 2
    header, lines = speed_table(result)
    assert all(len(line) == len(header) for line in lines)
    assert [line[0] for line in lines] == [cell for part in PARTS for cell in (part, "")]
    assert [line[-1] for line in lines[1::2]] == ["1"] * len(PARTS)


def test_a_billion_images_cost_what_one_costs_a_billion_times():
    local = {"engine": "local", "images": 900, "processor_seconds": 5.4, "bytes_of_tables": 2_000_000}
    scanned = {"pixels": 32, "images": 1000, "bytes": 3_000_000, "runs": [{**local, "engine": "other", "images": 1}, local]}
    work = Work("scan, 128 pixels", 8, {"as it is": lambda: None})
    (row,) = rows_of_work(work, 1, iter([0.0, 0.0, 0.512]).__next__)
    header, lines = billion_table(scanned, {"rows": as_data([row])})
    # 6 ms an image: 6e6 seconds, 1667 hours; 64 cores end in 26 hours. 3 kB and 2 kB an image; 64 / 6 ms of 3 kB.
    assert lines[0] == ["32", "167", "1,667", "2", "3", "2", "32"]
    # 64 ms an image: 6.4e7 seconds, 17,778 hours, 11.6 days of 64 cores.
    assert lines[1] == ["128", "15.6", "17,778", "12", "", "", ""]
    assert all(len(line) == len(header) for line in lines)


def test_what_grows_with_the_square_of_a_size_has_the_power_two():
    seconds = {"8": 1.0, "16": 5.0, "32": 20.0}
    clock = iter([0.0, 0.0, 0.0, *(moment for found in seconds.values() for moment in (0.0, found))])
    rows = rows_of_work(Work("attack: side", 1, {size: lambda: None for size in seconds}), 1, clock.__next__)
    shuffled = {"rows": as_data(rows)[::-1]}
    assert growth_table(shuffled)[1] == [["attack: side", "8: 1, 16: 5, 32: 20", "2.00"]]


def test_a_line_of_a_gpu_has_many_images_and_one():
    row = {"work": "harden", "model": "TAESD", "pixels": 256, "gradient_checkpointing": True}
    many = {**row, "at_once": 16, "peak_bytes": 3e9, "estimated_bytes": 4e9, "images_per_second": 20.0}
    header, lines = gpu_table({"rows": [many, {**many, "at_once": 4}, {**row, "at_once": 1, "failed": "out of memory"}]})
    assert lines == [["harden, TAESD, gradient checkpointing", "256", "3 (4)", "20", "out of memory", ""]]
    assert len(header) == len(lines[0])


@pytest.mark.parametrize("wrong", [{"parts": ("all",)}, {"rounds": 0}, {"images": 1}, {"size": 1}, {"steps": 0}])
def test_wrong_settings_are_refused_before_anything_is_done(wrong, tmp_path, photographs):
    with pytest.raises(InputError, match=next(iter(wrong)).removesuffix("s")):
        speed(photographs, tmp_path / "out", SpeedSettings(**wrong))
    assert not (tmp_path / "out").exists()


def test_every_part_has_works(tmp_path, x, monkeypatch):
    monkeypatch.setattr("srlvae.speed.run.hardening_works", lambda vae, x: [Work("hardening", 1, {})])
    settings = SpeedSettings(images=2)
    assert all(list(works(part, settings, x, tmp_path, [])) for part in PARTS)
    assert not list(works("nothing", settings, x, tmp_path, []))


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(InputError, match="ended with the exit code 2: .*not today"):
        start(lambda: ("-c", "import sys; print('not today', file=sys.stderr); sys.exit(2)"))()
