"""The loop: what it changes and what not, where it goes on after a stop, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file

from conftest import small_kl, small_tiny
from srlvae.errors import InputError
from srlvae.harden import HardenConfig, Interrupted, Listener, ObjectiveConfig, harden
from srlvae.vae import load_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"
OBJECTIVE = ObjectiveConfig(perceptual=0.0, perceptual_attacked=0.0)
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


@pytest.fixture
def photographs(tmp_path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(20):
        levels = torch.randint(0, 256, (6, 6, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).resize((48, 40)).save(folder / f"{i:02d}.png")
    return folder


class StopAfter(Listener):
    def __init__(self, step: int):
        self.step, self.seen = step, 0

    def stepped(self, step, losses):
        self.seen = step

    def should_stop(self):
        return self.seen >= self.step


class CrashAfter(Listener):
    def __init__(self, step: int):
        self.step = step

    def stepped(self, step, losses):
        if step == self.step:
            raise RuntimeError("power cut")


def test_only_the_encoder_changes_and_plain_diffusers_loads_it(tmp_path, photographs):
    original = small_kl()
    before = original.fingerprint()
    harden(original, photographs, tmp_path / "out", CONFIG)
    assert original.fingerprint() == before
    loaded = AutoencoderKL.from_pretrained(tmp_path / "out").state_dict()
    for name, weight in original.model.state_dict().items():
        in_encoder = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(loaded[name], weight) != in_encoder, name


def test_a_blend_lies_on_the_way_from_the_original_weights_to_the_tuned_ones(tmp_path, photographs):
    start = small_kl().model.state_dict()
    whole, part = (
        harden(small_kl(), photographs, tmp_path / str(blend), replace(CONFIG, blend=blend)).model.state_dict()
        for blend in (1.0, 0.25)
    )
    for name, weight in start.items():
        # One float32 rounding on each side.
        torch.testing.assert_close(part[name], 0.75 * weight + 0.25 * whole[name], rtol=1e-6, atol=1e-7)
    assert not torch.equal(part["encoder.conv_in.weight"], whole["encoder.conv_in.weight"])


def test_the_folder_describes_itself(tmp_path, photographs):
    (photographs / "broken.png").write_bytes(b"no picture")
    harden(small_kl(), photographs, tmp_path / "out", CONFIG)
    record = json.loads((tmp_path / "out" / "srlvae.json").read_text())
    assert record["original"] == small_kl().fingerprint()
    assert record["hardened"] == load_vae(tmp_path / "out").fingerprint() != record["original"]
    assert record["config"]["objective"]["eps"] == OBJECTIVE.eps
    assert record["images_skipped"] == 1
    assert "broken.png" in (tmp_path / "out" / "skipped.txt").read_text()
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("listener, error", [(StopAfter(3), Interrupted), (CrashAfter(5), RuntimeError)])
def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(tmp_path, photographs, listener, error):
    harden(small_kl(), photographs, tmp_path / "whole", CONFIG)
    with pytest.raises(error):
        harden(small_kl(), photographs, tmp_path / "cut", CONFIG, listener=listener)
    harden(small_kl(), photographs, tmp_path / "cut", CONFIG, resume=True)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_micro_batches_give_the_step_of_the_whole_batch(tmp_path, photographs):
    harden(small_kl(), photographs, tmp_path / "whole", CONFIG.changed(steps=1))
    harden(small_kl(), photographs, tmp_path / "parts", CONFIG.changed(steps=1, micro_batch=2))
    one, other = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    # AdamW's first step is ± the learning rate whatever the gradient's size, so a rounding error may flip a few near-zero ones.
    differing = sum((~torch.isclose(one[name], other[name], atol=1e-6)).sum().item() for name in one)
    assert differing < 0.01 * sum(weight.numel() for weight in one.values())


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(tmp_path, photographs, monkeypatch):
    calls = []

    def sometimes_nan(parameters, limit):
        calls.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        return torch.tensor(float("nan")) if len(calls) == 2 else calls[-1]

    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", lambda self, *arguments: sometimes_nan(*arguments))
    harden(small_kl(), photographs, tmp_path / "out", CONFIG)
    assert json.loads((tmp_path / "out" / "srlvae.json").read_text())["steps_skipped"] == 1


def test_an_autoencoder_without_posterior_is_hardened_too(tmp_path, photographs):
    result = harden(small_tiny(), photographs, tmp_path / "out", CONFIG.changed(steps=1, resolution=32))
    assert result.fingerprint() != small_tiny().fingerprint()


def test_other_settings_are_no_resumption(tmp_path, photographs):
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=StopAfter(1))
    with pytest.raises(InputError, match="seed was 0, is 1"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(seed=1), resume=True)
    with pytest.raises(InputError, match="--resume"):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG)


def test_a_folder_with_something_else_is_left_alone(tmp_path, photographs):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="something else"):
            harden(small_kl(), photographs, tmp_path / "out", CONFIG, resume=resume)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"resolution": 30}, "multiples of 4"),
        ({"batch_size": 3, "micro_batch": 2}, "micro-batches of 2"),
        ({"blend": 0.0}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, photographs, changes, message):
    with pytest.raises(InputError, match=message):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(**changes))
    assert not (tmp_path / "out").exists()


def run_command(*words: str, **options) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
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
    assert run_command(*command(tmp_path, photographs, "cut", *settings, "--resume")).wait() == 0
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path, photographs):
    small_kl().save(tmp_path / "vae")
    settings = ("--steps", "1", "--batch-size", "8")
    assert run_command(*command(tmp_path, photographs, "one", *settings)).wait() == 0
    launch = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "-m")
    assert run_command(*launch, *command(tmp_path, photographs, "two", *settings)).wait() == 0
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    differing = sum((~torch.isclose(one[name], two[name], atol=1e-6)).sum().item() for name in one)
    assert differing < 0.01 * sum(weight.numel() for weight in one.values())
