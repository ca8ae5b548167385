"""The loop: what it changes and what not, where it goes on after a stop, and what it refuses."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import small_kl, small_tiny
from heard import Heard
from small import RandomFeatures
from srlvae.errors import InputError
from srlvae.harden import OBJECTIVES, HardenConfig, InnerAttack, Interrupted, Objective, harden, preset
from srlvae.harden.output import CHECKPOINT
from srlvae.harden.photographs import FolderPhotographs, open_photographs
from srlvae.harden.scores import Attacked, measure
from srlvae.harden.trainer import Trainer
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.posterior import variance_is_held
from srlvae.models.vae import load_vae
from test_vae import small_wan

WEIGHTS = "diffusion_pytorch_model.safetensors"
OBJECTIVE = Objective(attacks=(InnerAttack(),), turns=8, visits=2)
CONFIG = HardenConfig(
    steps=6,
    batch_size=4,
    resolution=32,
    warmup=1,
    features="none",
    precision="no",
    checkpoint_every=2,
    held_out=2,
    workers=0,
    objective=OBJECTIVE,
)

# What the scores are is for test_by_hand.py to say.
pytestmark = pytest.mark.usefixtures("short_scores")


@pytest.fixture
def photographs(tmp_path) -> Path:
    return make_photographs(tmp_path / "photographs")


def make_photographs(folder: Path, size: tuple[int, int] = (48, 40)) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(20):
        levels = torch.randint(0, 256, (6, 6, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).resize(size).save(folder / f"{i:02d}.png")
    return folder


def test_an_autoencoder_of_frames_is_hardened_like_any_other(tmp_path, photographs):
    original = small_wan()
    before = {name: w.clone() for name, w in original.model.state_dict().items()}
    hardened = harden(original, photographs, tmp_path / "out", replace(CONFIG, steps=2))
    moved = {name.split(".")[0] for name, w in hardened.model.state_dict().items() if not torch.equal(w, before[name])}
    assert moved == {"encoder", "quant_conv"} and variance_is_held(hardened)
    assert load_vae(tmp_path / "out").fingerprint() == hardened.fingerprint()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run, of which tests only read, and the fingerprint of the VAE that came back."""
    folder = tmp_path_factory.mktemp("done")
    photographs, original = make_photographs(folder / "photographs"), small_kl()
    (photographs / "broken.png").write_bytes(b"no picture")
    hardened = harden(original, photographs, folder / "out", CONFIG.changed(snapshot_every=3))
    # It is left as it was.
    assert original.fingerprint() == small_kl().fingerprint()
    return folder / "out", hardened.fingerprint()


def test_only_the_encoder_changes_and_plain_diffusers_loads_it(done):
    loaded = AutoencoderKL.from_pretrained(done[0]).state_dict()
    for name, weight in small_kl().model.state_dict().items():
        in_encoder = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(loaded[name], weight) != in_encoder, name


def test_the_folder_describes_itself(done):
    out, hardened = done
    record = json.loads((out / "srlvae.json").read_text())
    assert record["original"] == small_kl().fingerprint()
    assert record["hardened"] == hardened == load_vae(out).fingerprint() != record["original"]
    assert record["config"]["objective"]["attacks"] == [asdict(attack) for attack in OBJECTIVE.attacks]
    assert "_name_or_path" not in json.loads((out / "config.json").read_text())
    assert record["images_skipped"] == 1 and record["steps_planned"] == [CONFIG.steps]
    assert record["scores"]["precision"] == "float32" and "computed in float32" in (out / "README.md").read_text()
    assert "broken.png" in (out / "left-out.csv").read_text(encoding="utf-8")
    assert not (out / "checkpoints").exists()


def test_the_encoder_file_beside_the_folder_makes_the_same_model(done):
    out, hardened = done
    assert apply_encoder(out, small_kl()).fingerprint() == hardened
    kept = [read_encoder(path).facts for path in sorted((out / "snapshots").iterdir())]
    assert [(facts["step"], facts["images"]) for facts in kept] == [(3, 12), (6, 24)]
    assert apply_encoder(out / "snapshots" / "step-000006.safetensors", small_kl()).fingerprint() == hardened


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[HardenConfig], bytes]:
    """The weights that a run without an interruption writes, worked out once for each of its settings."""
    folder = tmp_path_factory.mktemp("whole")
    photographs = make_photographs(folder / "photographs")

    @functools.cache
    def weights(config: HardenConfig) -> bytes:
        out = folder / str(len(list(folder.iterdir())))
        harden(small_kl(), photographs, out, config)
        return (out / WEIGHTS).read_bytes()

    return weights


@pytest.mark.parametrize(("cut", "changes"), [(1, {}), (3, {}), (4, {"micro_batch": 2})])
def test_a_resumed_run_takes_the_steps_that_are_left_and_equals_an_uninterrupted_one(
    tmp_path, photographs, cut, changes, whole
):
    config = CONFIG.changed(**changes)
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "cut", config, listener=Heard(stop_at=cut))
    steps = Heard()
    harden(small_kl(), photographs, tmp_path / "cut", config, listener=steps)
    assert steps.numbers == list(range(cut + 1, config.steps + 1))
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == whole(config)


def test_a_run_that_crashed_goes_on_from_its_last_checkpoint(tmp_path, photographs, whole):
    with pytest.raises(RuntimeError, match="power cut"):
        harden(small_kl(), photographs, tmp_path / "cut", CONFIG, listener=Heard(crash_at=5))
    steps = Heard()
    harden(small_kl(), photographs, tmp_path / "cut", CONFIG, listener=steps)
    assert steps.numbers == [5, 6]
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == whole(CONFIG)


def test_more_steps_other_micro_batches_and_checkpoints_are_a_resumption(tmp_path, photographs):
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=Heard(stop_at=2))
    steps = Heard()
    longer = CONFIG.changed(steps=8, micro_batch=2, checkpoint_every=3, workers=1)
    harden(small_kl(), photographs, tmp_path / "out", longer, listener=steps)
    assert steps.numbers == [3, 4, 5, 6, 7, 8]
    record = json.loads((tmp_path / "out" / "srlvae.json").read_text())
    assert record["config"]["steps"] == 8 and record["steps_planned"] == [CONFIG.steps, 8]
    assert f"When it began, {CONFIG.steps} were planned" in (tmp_path / "out" / "README.md").read_text()


def test_fewer_steps_than_were_taken_are_refused(tmp_path, photographs):
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=Heard(stop_at=3))
    with pytest.raises(InputError, match="has taken 3 steps already"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(steps=2))
    steps = Heard()
    harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=steps)
    assert steps.numbers == list(range(4, CONFIG.steps + 1))


def test_a_run_that_was_about_to_end_may_be_told_to_go_further(tmp_path, photographs):
    for listener, config in ((Heard(stop_at=4), CONFIG), (Heard(stop_at=5), CONFIG)):
        with pytest.raises(Interrupted):
            harden(small_kl(), photographs, tmp_path / "out", config, listener=listener)
    steps = Heard()
    harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(steps=9), listener=steps)
    assert steps.numbers == [6, 7, 8, 9]


def test_other_photographs_are_no_resumption_and_a_copy_elsewhere_is(tmp_path, photographs):
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=Heard(stop_at=2))
    other = shutil.copytree(photographs, tmp_path / "other")
    (other / "07.png").unlink()
    with pytest.raises(InputError, match="photographs was"):
        harden(small_kl(), other, tmp_path / "out", CONFIG)
    sound = (photographs / "07.png").read_bytes()
    (other / "07.png").write_bytes(sound[:-1] + b"x")
    with pytest.raises(InputError, match="contents was"):
        harden(small_kl(), other, tmp_path / "out", CONFIG)
    (other / "07.png").write_bytes(sound)
    record = tmp_path / "out" / "checkpoints" / "run.json"
    said = json.loads(record.read_text())
    assert said.pop("contents")
    # As of a run that was begun before contents were looked at.
    record.write_text(json.dumps(said))
    harden(small_kl(), other, tmp_path / "out", CONFIG.changed(steps=3))


def test_of_very_large_folders_the_beginnings_of_files_are_looked_at(photographs, tmp_path, monkeypatch):
    other = Path(shutil.copytree(photographs, tmp_path / "other"))
    monkeypatch.setattr("srlvae.harden.photographs.LOOKED_AT", 2)
    monkeypatch.setattr("srlvae.harden.photographs.BEGINNING", 100)
    known = FolderPhotographs(photographs, 32).contents()
    sound = (other / "07.png").read_bytes()
    (other / "07.png").write_bytes(sound[:-1] + b"x")
    assert FolderPhotographs(other, 32).contents() == known
    (other / "07.png").write_bytes(sound[:99] + b"x" + sound[100:])
    assert FolderPhotographs(other, 32).contents() != known


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """The folder of a run that was stopped, on a copy of `photographs`."""
    out = tmp_path_factory.mktemp("cut") / "out"
    with pytest.raises(Interrupted):
        harden(small_kl(), make_photographs(out.with_name("photographs")), out, CONFIG, listener=Heard(stop_at=2))
    return out


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, progress: progress.update(step=-3),
        lambda tensors, progress: progress.update(step="2"),
        lambda tensors, progress: progress.update(log_weight=float("nan")),
        lambda tensors, progress: progress.update(unreadable={"x.png": 3}),
        lambda tensors, progress: progress.update(more=1),
        lambda tensors, progress: progress.clear() or progress.update(scaler=[]),
        lambda tensors, progress: tensors.update({"more/0": tensors["more/0"][:, :, :-1].contiguous()}),
        lambda tensors, progress: tensors.update({"more/x": tensors["more/0"].clone()}),
        lambda tensors, progress: tensors.update({"more/0": tensors["more/0"] * torch.nan}),
        lambda tensors, progress: tensors.update({"optimizer/0/exp_avg": torch.zeros(3)}),
        lambda tensors, progress: tensors.update({"optimizer/999/exp_avg": torch.zeros(3)}),
        lambda tensors, progress: tensors.update({"encoder/conv_in.weight": torch.zeros(3)}),
    ],
)
def test_a_checkpoint_that_somebody_changed_is_a_sentence(spoil, cut, photographs, tmp_path):
    out = Path(shutil.copytree(cut, tmp_path / "out"))
    file = out / "checkpoints" / "last.safetensors"
    with safe_open(file, "pt") as opened:
        tensors, progress = {key: opened.get_tensor(key) for key in opened.keys()}, json.loads(opened.metadata()["progress"])
    spoil(tensors, progress)
    save_file(tensors, file, {"progress": json.dumps(progress)})
    with pytest.raises(InputError, match=r"cannot resume from .*last\.safetensors: it is damaged, or belongs to another run"):
        harden(small_kl(), photographs, out, CONFIG)


def test_micro_batches_give_the_step_of_the_whole_batch(tmp_path, photographs):
    harden(small_kl(), photographs, tmp_path / "whole", CONFIG.changed(steps=1))
    harden(small_kl(), photographs, tmp_path / "parts", CONFIG.changed(steps=1, micro_batch=2))
    assert same_step(tmp_path / "whole", tmp_path / "parts")


class NotANumber(torch.autograd.Function):
    """Passes images on, and no number back."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


def sometimes(vae, bad):
    """`vae` whose encoder's gradient is no number where `bad` of how often it was asked for one says so."""
    calls = []

    def hook(module, inputs, output):
        if output.requires_grad:
            calls.append(1)
            return NotANumber.apply(output) if bad(len(calls)) else output

    vae.model.encoder.register_forward_hook(hook)
    return vae


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(tmp_path, photographs):
    hardened = harden(sometimes(small_kl(), lambda call: call == 2), photographs, tmp_path / "out", CONFIG)
    assert json.loads((tmp_path / "out" / "srlvae.json").read_text())["steps_skipped"] == 1
    assert all(weight.isfinite().all() for weight in hardened.model.state_dict().values())


def test_a_run_without_finite_gradients_is_an_error_and_no_result(tmp_path, photographs):
    with pytest.raises(InputError, match="no finite gradient, so nothing is learnt"):
        harden(sometimes(small_kl(), lambda call: True), photographs, tmp_path / "out", CONFIG.changed(steps=40))
    assert not (tmp_path / "out" / WEIGHTS).exists()


def test_a_run_that_dies_between_micro_batches_leaves_nothing_behind(tmp_path, photographs):
    vae, calls = small_kl(), []

    def dies(module, inputs):
        calls.extend([1] if torch.is_grad_enabled() and inputs[0].requires_grad else [])
        if len(calls) == 2:
            raise OSError("power cut")

    vae.model.encoder.register_forward_pre_hook(dies)
    with pytest.raises(OSError, match="power cut"):
        harden(vae, photographs, tmp_path / "out", CONFIG.changed(micro_batch=2))
    assert GradientState().sync_gradients


def test_an_encoder_that_is_not_finite_on_photographs_is_refused(tmp_path, photographs):
    broken = small_kl()
    broken.model.encoder.conv_in.weight.mul_(1e30)
    broken.model.quant_conv.weight.mul_(1e30)
    with pytest.raises(InputError, match="not finite on these photographs; the usual cause"):
        harden(broken, photographs, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out" / WEIGHTS).exists()


def test_scores_that_are_not_finite_are_an_error_and_the_checkpoint_stays(tmp_path, photographs, monkeypatch):
    part = {"psnr_clean": math.nan}
    monkeypatch.setattr("srlvae.harden.train.scores", lambda *_: {"original": part, "hardened": part})
    with pytest.raises(InputError, match="scores are not finite"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(steps=1))
    assert (tmp_path / "out" / CHECKPOINT).exists() and not (tmp_path / "out" / WEIGHTS).exists()


def test_a_run_that_learns_nothing_is_an_error(tmp_path, photographs):
    still = CONFIG.changed(learning_rate=1e-60)
    with pytest.raises(InputError, match="has learnt nothing"):
        harden(small_kl(), photographs, tmp_path / "out", still)
    assert not (tmp_path / "out" / WEIGHTS).exists()


@pytest.mark.parametrize("attack", [InnerAttack(), InnerAttack("target", "original", steps=1)], ids=["own", "original"])
def test_where_memory_runs_out_fewer_images_go_through_at_once(tmp_path, photographs, attack):
    sizes = []

    def hungry(module, inputs):
        if torch.is_grad_enabled() and inputs[0].requires_grad:
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    vae = small_kl()
    vae.model.encoder.register_forward_pre_hook(hungry)
    config = CONFIG.changed(steps=2, objective=asdict(replace(OBJECTIVE, attacks=(attack,))))
    harden(vae, photographs, tmp_path / "out", config)
    # Clean and attacked images of four, then of two, then of one at a time; or attacked ones alone of four, two and one.
    assert sizes[:2] == ([8, 4] if attack.on == "training" else [4, 2]) and max(sizes[2:]) == 2
    assert json.loads((tmp_path / "out" / "srlvae.json").read_text())["steps_skipped"] == 0


# Where there is no quant_conv, it is held in another layer, by the same switch of the objective.
@pytest.mark.parametrize(
    ("objective", "quant"),
    [(name, quant) if quant or name == "srl" else pytest.param(name, quant, marks=pytest.mark.slow)
     for name in OBJECTIVES for quant in (True, False)],
)  # fmt: skip
def test_the_variance_is_held_but_where_a_published_method_leaves_it(tmp_path, photographs, objective, quant):
    features = "efficientnet-lite0" if OBJECTIVES[objective].uses_features else "none"
    config = CONFIG.changed(steps=1, features=features, objective=asdict(OBJECTIVES[objective]))
    original = small_kl(quant=quant)
    hardened = harden(original, photographs, tmp_path / "out", config)
    assert variance_is_held(hardened) == OBJECTIVES[objective].hold_variance == (objective not in ("srl-paper", "fare"))
    scores = json.loads((tmp_path / "out" / "srlvae.json").read_text())["scores"]
    assert scores["hardened"]["deviation_clean"] == pytest.approx(scores["original"]["deviation_clean"], rel=0.05)
    if variance_is_held(hardened):
        # No image moves it: the same number but for the mean over equal ones.
        assert scores["hardened"]["deviation_white_box"] == pytest.approx(scores["hardened"]["deviation_clean"], rel=1e-6)


def test_closeness_is_kept_by_a_weight_that_follows(tmp_path, photographs):
    """A tighter bound leaves clean latents nearer to the original's."""
    shifts = {}
    for closeness in (0.02, 0.5):
        config = CONFIG.changed(steps=60, learning_rate=2e-3, closeness=closeness, checkpoint_every=60)
        harden(small_kl(), photographs, tmp_path / str(closeness), config)
        record = json.loads((tmp_path / str(closeness) / "srlvae.json").read_text())
        shifts[closeness] = record["scores"]["hardened"]["shift_clean"]
    assert shifts[0.02] < 0.9 * shifts[0.5], shifts


def test_an_autoencoder_without_posterior_is_hardened_too(tmp_path, photographs):
    result = harden(small_tiny(), photographs, tmp_path / "out", CONFIG.changed(steps=1, resolution=32))
    assert result.fingerprint() != small_tiny().fingerprint()


def test_other_settings_are_no_resumption(tmp_path, photographs):
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=Heard(stop_at=1))
    with pytest.raises(InputError, match="seed was 0, is 1"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(seed=1))
    with pytest.raises(InputError, match="--no-resume"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, resume=False)


def test_a_folder_with_something_else_is_left_alone(tmp_path, photographs):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"resolution": 30}, "multiples of 4"),
        ({"batch_size": 3, "micro_batch": 2}, "micro-batches of 2"),
        ({"closeness": -1.0}, "at least 0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, photographs, changes, message):
    with pytest.raises(InputError, match=message):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(**changes))
    assert not (tmp_path / "out").exists()


class Killed(Heard):
    """Kills the process, as nothing can be told to, at a step."""

    def at(self, bar, number, total=None, note=""):
        if (bar, number) == ("steps", 5):
            os.kill(os.getpid(), signal.SIGKILL)


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own, without loading everything anew, and return how it ended; below 0: by a signal."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path, photographs, whole):
    run = functools.partial(harden, small_kl(), photographs, tmp_path / "cut", CONFIG)
    assert forked(functools.partial(run, listener=Killed())) == -signal.SIGKILL
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    steps = Heard()
    run(listener=steps)
    assert steps.numbers == [5, 6] and (tmp_path / "cut" / WEIGHTS).read_bytes() == whole(CONFIG)


def as_one_of_two(rank: int, port: int, work: Callable[[], object]) -> None:
    """Run `work` as torchrun starts it, in a process that has been the only one so far."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    work()


def free_port() -> int:
    """A port on which processes can find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_take_the_step_of_one(tmp_path, photographs):
    config = CONFIG.changed(steps=1)
    harden(small_kl(), photographs, tmp_path / "one", config)
    as_two_processes(functools.partial(harden, small_kl(), photographs, tmp_path / "two", config))
    assert same_step(tmp_path / "one", tmp_path / "two")


def as_two_processes(work: Callable[[], object]) -> None:
    port, context = free_port(), multiprocessing.get_context("fork")
    both = [context.Process(target=as_one_of_two, args=(rank, port, work)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]


class EveryThirdIsBroken:
    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Image.Image:
        if index % 3 == 0:
            raise InputError("broken")
        return Image.new("RGB", (40, 40), (index, 0, 0))


def test_what_another_process_could_not_read_is_named_too(tmp_path):
    harden(small_kl(), EveryThirdIsBroken(), tmp_path / "one", CONFIG)
    as_two_processes(functools.partial(harden, small_kl(), EveryThirdIsBroken(), tmp_path / "two", CONFIG))
    one, two = (sorted((tmp_path / name / "left-out.csv").read_text().splitlines()) for name in ("one", "two"))
    assert one == two and len(one) > 4


def same_step(one: Path, other: Path) -> bool:
    """Whether the weights are equal but for some whose gradient is nearly zero, of which AdamW makes a whole step."""
    one, other = (load_file(folder / WEIGHTS) for folder in (one, other))
    differing = sum((~torch.isclose(one[name], other[name], atol=1e-6)).sum().item() for name in one)
    return differing < 0.01 * sum(weight.numel() for weight in one.values())


def run_command(*words: str, **options) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *words], env=environment, **options)


def command(folder: Path, photographs: Path, out: str, *more: str) -> tuple[str, ...]:
    words = ("harden", str(folder / "vae"), "--images", str(photographs), "--out", str(folder / out), "--preset", "cpu")
    words += ("--resolution", "32", "--features", "none", "--precision", "no", "--held-out", "2")
    return "srlvae", *words, *more


@pytest.mark.slow
def test_a_killed_run_equals_an_uninterrupted_one_byte_for_byte(tmp_path, photographs):
    small_kl().save(tmp_path / "vae")
    settings = ("--steps", "60", "--checkpoint-every", "5")
    assert run_command(*command(tmp_path, photographs, "whole", *settings)).wait() == 0
    process = run_command(*command(tmp_path, photographs, "cut", *settings))
    while not (tmp_path / "cut" / "checkpoints" / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    assert run_command(*command(tmp_path, photographs, "cut", *settings)).wait() == 0
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_two_processes_of_torchrun_take_the_step_of_one(tmp_path, photographs):
    small_kl().save(tmp_path / "vae")
    settings = ("--steps", "1", "--batch-size", "8")
    assert run_command(*command(tmp_path, photographs, "one", *settings)).wait() == 0
    launch = ("torch.distributed.run", "--nproc-per-node", "2", "-m")
    two = run_command(*launch, *command(tmp_path, photographs, "two", *settings), stdout=subprocess.PIPE, text=True)
    said, _ = two.communicate()
    assert two.returncode == 0 and "2 processes" in said
    assert same_step(tmp_path / "one", tmp_path / "two")


def test_crops_too_small_for_the_feature_network_are_refused_before_the_first_step(tmp_path, photographs):
    config = CONFIG.changed(features="efficientnet-lite0", resolution=24, steps=1)
    with pytest.raises(InputError, match="24 pixels are too small for efficientnet-lite0.*--features"):
        harden(small_kl(), photographs, tmp_path / "out", config)
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_an_eps_without_attacks_and_a_column_without_shards_are_refused(photographs):
    with pytest.raises(InputError, match="no attacks, so eps does nothing"):
        preset("cpu", "none", eps=8 / 255)
    with pytest.raises(InputError, match="has single images; leave it out"):
        open_photographs(str(photographs), 16, column="nosuch")


def test_the_distance_in_the_scores_is_that_of_float32(monkeypatch):
    vae, x = small_kl(), torch.rand(2, 3, 32, 32)
    attacked = Attacked(x, x, x, None)
    seen: list[bool] = []

    class Seen(RandomFeatures):
        def columns(self, x, stages=None):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().columns(x, stages)

    with torch.autocast("cpu", torch.bfloat16):
        found = measure(vae, x, vae.mean(x), attacked, attacked, Seen())["features_clean"]
    assert seen == [False, False] and found.dtype == torch.float32


def test_scores_take_one_image_at_a_time_where_steps_are_checkpointed(tmp_path, photographs):
    held_out = torch.rand(4, 3, 32, 32)
    for checkpointing, at_once in ((False, 4), (True, 1)):
        config = CONFIG.changed(gradient_checkpointing=checkpointing, batch_size=4, micro_batch=4)
        assert Trainer(small_kl(), config, held_out).fitting(lambda n: n) == at_once
