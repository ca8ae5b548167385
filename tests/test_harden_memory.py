"""What a run of hardening needs is counted before the first step, and cut to the memory that is free."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from conftest import small_kl
from heard import Heard
from srlvae.errors import InputError
from srlvae.harden import HardenConfig, Objective, harden
from srlvae.harden.crops import Batch
from srlvae.harden.progress import Progress
from srlvae.harden.trainer import Trainer
from srlvae.memory import free_memory
from srlvae.models.vae import VAE
from srlvae.purify.cost import peak_memory
from test_harden import CONFIG, make_photographs, same_step
from zoo_shapes import CONFIGURATIONS, large, taesd

FREE = "srlvae.harden.memory.free_memory"


def trainer_of(vae: VAE, side: int, batch: int, **changes) -> Trainer:
    """A trainer of the default objective on batches that all take their turn at once."""
    objective = dataclasses.replace(Objective(), turns=batch)
    config = HardenConfig(steps=2, batch_size=batch, resolution=side, features="none", precision="no", objective=objective)
    return Trainer(vae, dataclasses.replace(config, **changes), torch.rand(2, 3, side, side))


def two_steps(trainer: Trainer) -> None:
    side, batch, progress = trainer.config.resolution, trainer.per_process, Progress()
    x = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    trainer.take(0, Batch(x, list(range(batch)), []), progress, 1.0)
    for _ in range(2):  # the optimiser's moments are there from the second on
        trainer.step(progress, 0)


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (small_kl, {}),
        (small_kl, {"micro_batch": 2}),
        (small_kl, {"gradient_checkpointing": True}),
        (small_kl, {"precision": "bf16"}),
        (taesd, {}),
        pytest.param(lambda: large("sd-1.5"), {"batch_size": 2}, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_what_a_run_allocates(build, changes):
    trainer = trainer_of(build(), 64, changes.get("batch_size", 4), **changes)
    assert trainer.fit.needed == pytest.approx(peak_memory(lambda: two_steps(trainer), torch.device("cpu")), rel=0.2)


def needs(**changes) -> int:
    needed = trainer_of(small_kl(), 32, 4, **changes).fit.needed
    assert needed is not None
    return needed


def test_as_many_images_as_fit_go_through_at_once_and_checkpointing_is_the_last_resort(monkeypatch):
    parts = {n: needs(micro_batch=n) for n in (4, 2, 1)}
    least = needs(micro_batch=1, gradient_checkpointing=True)
    assert parts[4] > parts[2] > parts[1] > least
    chosen = {}
    for room in (*parts.values(), least, least // 2):
        monkeypatch.setattr(FREE, lambda device, room=room: round(room / 0.9) + 1)
        fit = trainer_of(small_kl(), 32, 4).fit
        chosen[room] = (fit.micro, fit.checkpointing, fit.fits)
    assert [chosen[parts[n]] for n in (4, 2, 1)] == [(4, False, True), (2, False, True), (1, False, True)]
    assert chosen[least][1:] == (True, True) and chosen[least // 2] == (1, True, False)
    assert trainer_of(small_kl(), 32, 4, gradient_checkpointing=False, micro_batch=2).fit.checkpointing is False


@pytest.fixture
def photographs(tmp_path):
    return make_photographs(tmp_path / "photographs")


def test_a_run_in_little_memory_says_so_and_ends_as_one_with_much(tmp_path, photographs, monkeypatch):
    config, said = CONFIG.changed(steps=1), {}
    for name, room in (("much", 10**12), ("little", 1)):
        monkeypatch.setattr(FREE, lambda device, room=room: room)
        heard = Heard()
        harden(small_kl(), photographs, tmp_path / name, config, listener=heard)
        said[name] = "\n".join(heard.texts)
    assert "4 of 4 images at once, without gradient checkpointing" in said["much"]
    assert "1 of 4 images at once, with gradient checkpointing; it may not be enough" in said["little"]
    assert same_step(tmp_path / "much", tmp_path / "little")


def test_a_run_whose_memory_runs_out_says_so_and_goes_on(tmp_path, photographs):
    harden(small_kl(), photographs, tmp_path / "plain", CONFIG.changed(steps=1))
    vae, heard = small_kl(), Heard()

    def hungry(module, inputs):
        if torch.is_grad_enabled() and inputs[0].requires_grad and len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    vae.model.encoder.register_forward_pre_hook(hungry)
    harden(vae, photographs, tmp_path / "out", CONFIG.changed(steps=1), listener=heard)
    assert "memory has run out: from now on 2 of 4 images at once" in heard.texts
    assert same_step(tmp_path / "plain", tmp_path / "out")


def test_the_limit_of_a_process_counts():
    code = "import torch, srlvae.memory as m, sys; print(m.free_memory())"
    free = subprocess.run(
        ["sh", "-c", f'ulimit -v 8000000; exec "{sys.executable}" -c "{code}"'], capture_output=True, text=True, check=True
    )
    assert 0 < int(free.stdout) < 8000000 * 1024
    assert free_memory(torch.device("cpu")) > 0


@pytest.mark.parametrize("prefix", ["", "total_"])
def test_copies_of_files_that_the_kernel_gives_back_are_free(prefix, tmp_path, monkeypatch):
    lines = {"anon": 1000, "active_file": 2000, "inactive_file": 3000} if not prefix else {"active_file": 1, "inactive_file": 1}
    lines |= {"total_active_file": 2000, "total_inactive_file": 3000} if prefix else {}
    (tmp_path / "memory.stat").write_text("".join(f"{name} {count}\n" for name, count in lines.items()))
    for name, count in (("limit", 10_000), ("used", 9_000)):
        (tmp_path / name).write_text(f"{count}\n")
    monkeypatch.setattr("srlvae.memory._LIMITS", (tmp_path / "limit",))
    monkeypatch.setattr("srlvae.memory._USED", (tmp_path / "used",))
    assert free_memory() == 6_000


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_real_configurations_take_a_step(name, tmp_path, photographs):
    config = CONFIG.changed(steps=1, batch_size=2, resolution=64, held_out=1)
    harden(large(name), make_photographs(tmp_path / "large", (96, 80)), tmp_path / "out", config)
    assert json.loads((tmp_path / "out" / "srlvae.json").read_text())["steps_skipped"] == 0


class Curves(Heard):
    """Remembers what is measured and shown."""

    wants_pictures = True

    def __init__(self):
        super().__init__()
        self.points: dict[str, list[int]] = {}
        self.pictures: list[torch.Tensor] = []

    def measured(self, step, values):
        for name in values:
            self.points.setdefault(name, []).append(step)

    def pictured(self, step, name, picture):
        self.pictures.append(picture)


def test_curves_have_every_step_and_pictures_every_checkpoint(tmp_path, photographs, monkeypatch):
    made = []
    from srlvae.harden import output

    attack = output.attack_reconstruction
    monkeypatch.setattr(output, "attack_reconstruction", lambda *given, **named: made.append(1) or attack(*given, **named))
    curves = Curves()
    harden(small_kl(), photographs, tmp_path / "out", CONFIG.changed(steps=4), listener=curves)
    assert curves.points["shift attacked"] == [1, 2, 3, 4] and curves.points["shift_attacked"] == [2, 4]
    first, second = curves.pictures
    assert first.shape == second.shape and not torch.equal(first, second)
    assert len(made) == 2  # one a photograph, for all checkpoints and the picture of the result


def test_a_micro_batch_that_is_no_number_is_refused(monkeypatch, capsys):
    from srlvae.cli.harden import _images_at_once

    assert (_images_at_once("auto"), _images_at_once("4")) == (0, 4)
    with pytest.raises(InputError, match="auto or a number of images, got many"):
        _images_at_once("many")
