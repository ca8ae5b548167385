"""A resumed run is the uninterrupted one, bit by bit."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from conftest import small_kl
from srlvae.errors import InputError
from srlvae.training.checkpoint import load_checkpoint, save_checkpoint

PROGRESS = {"step": 3, "best": 0.1, "seen": [1, 2], "name": "λ", "nothing": None}


def start(**options) -> tuple[dict[str, nn.Module], torch.optim.AdamW]:
    modules = small_kl().encoder_modules()
    weights = [weight.requires_grad_(True) for module in modules.values() for weight in module.parameters()]
    return modules, torch.optim.AdamW(weights, lr=1e-2, **options)


def train(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Optimiser steps whose images depend on nothing but the number of the step."""
    for step in steps:
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        modules["quant_conv"](modules["encoder"](images)).square().mean().backward()
        optimizer.step()


def weights_of(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    return {f"{name}/{key}": value.clone() for name, module in modules.items() for key, value in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def interrupted(tmp_path):
    """A run that saved after three steps: file, modules, optimiser."""
    modules, optimizer = start(weight_decay=0.1)
    train(modules, optimizer, range(3))
    save_checkpoint(tmp_path / "last.safetensors", modules, optimizer, PROGRESS)
    return tmp_path / "last.safetensors", modules, optimizer


def test_moments_come_back_in_the_order_of_their_weights(tmp_path):
    runs = [start() for _ in range(2)]
    for modules, optimizer in runs:
        for module in modules.values():
            module.to(memory_format=torch.channels_last)
        train(modules, optimizer, range(1))
    save_checkpoint(tmp_path / "last.safetensors", *runs[0], PROGRESS)
    modules, optimizer = runs[1]
    load_checkpoint(tmp_path / "last.safetensors", modules, optimizer)
    moved = 0
    for weight, parts in optimizer.state.items():
        moved += not weight.is_contiguous()
        assert all(moment.stride() == weight.stride() for moment in (parts["exp_avg"], parts["exp_avg_sq"]))
    assert moved


def test_a_resumed_run_continues_bit_by_bit(interrupted):
    path, modules, optimizer = interrupted
    resumed, its_optimizer = start(weight_decay=0.1)
    load_checkpoint(path, resumed, its_optimizer)
    for steps in (range(3, 4), range(4, 7)):
        train(modules, optimizer, steps)
        train(resumed, its_optimizer, steps)
        assert same(weights_of(resumed), weights_of(modules))


def test_without_the_state_of_the_optimiser_it_would_not(interrupted):
    path, modules, optimizer = interrupted
    resumed, fresh = start(weight_decay=0.1)
    load_checkpoint(path, resumed, None)
    assert same(weights_of(resumed), weights_of(modules))
    train(modules, optimizer, range(3, 4))
    train(resumed, fresh, range(3, 4))
    assert not same(weights_of(resumed), weights_of(modules))


def test_every_value_of_the_optimiser_comes_back(interrupted):
    path, _, optimizer = interrupted
    resumed, its_optimizer = start(weight_decay=0.1)
    load_checkpoint(path, resumed, its_optimizer)
    before, after = optimizer.state_dict(), its_optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"] and before["state"].keys() == after["state"].keys()
    assert all(same(before["state"][index], after["state"][index]) for index in before["state"])


def test_other_states_of_adamw_continue_as_well(tmp_path):
    modules, optimizer = start(amsgrad=True)
    train(modules, optimizer, range(2))
    save_checkpoint(tmp_path / "a.safetensors", modules, optimizer, {})
    resumed, its_optimizer = start(amsgrad=True)
    load_checkpoint(tmp_path / "a.safetensors", resumed, its_optimizer)
    train(modules, optimizer, range(2, 4))
    train(resumed, its_optimizer, range(2, 4))
    assert same(weights_of(resumed), weights_of(modules))


def test_progress_comes_back_as_it_was(interrupted):
    modules, optimizer = start()
    assert load_checkpoint(interrupted[0], modules, optimizer) == PROGRESS


def test_a_run_that_has_not_begun_can_be_saved(tmp_path):
    modules, optimizer = start()
    save_checkpoint(tmp_path / "a.safetensors", modules, optimizer, {"step": 0})
    resumed, its_optimizer = start()
    assert load_checkpoint(tmp_path / "a.safetensors", resumed, its_optimizer) == {"step": 0}
    assert not its_optimizer.state_dict()["state"]


def test_weights_in_another_memory_layout_come_back(tmp_path):
    modules, optimizer = start()
    modules["encoder"].to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "a.safetensors", modules, optimizer, {})
    resumed, _ = start()
    nn.init.zeros_(resumed["encoder"].conv_in.weight)
    load_checkpoint(tmp_path / "a.safetensors", resumed, None)
    assert same(weights_of(resumed), weights_of(modules))


def test_saving_changes_nothing(tmp_path):
    modules, optimizer = start()
    train(modules, optimizer, range(2))
    before = weights_of(modules)
    save_checkpoint(tmp_path / "a.safetensors", modules, optimizer, {})
    assert same(weights_of(modules), before) and all(w.requires_grad for w in modules["encoder"].parameters())


def test_a_failing_save_keeps_the_old_checkpoint(interrupted, monkeypatch):
    path, modules, optimizer = interrupted
    before = path.read_bytes()

    def fill_the_disk(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("srlvae.training.checkpoint.save_file", fill_the_disk)
    with pytest.raises(InputError, match="no space left"):
        save_checkpoint(path, modules, optimizer, {"step": 4})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_checkpoint_of_another_architecture_or_that_is_damaged_is_refused(interrupted, tmp_path):
    other = small_kl(channels=16).encoder_modules()
    with pytest.raises(InputError, match="(?s)damaged, or belongs to another run.*size mismatch"):
        load_checkpoint(interrupted[0], other, None)
    whole = interrupted[0].read_bytes()
    for content in (b"", b"{}", whole[:-9], whole.replace(b'\\"', b"''", 1)):
        (tmp_path / "last.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="cannot resume from"):
            load_checkpoint(tmp_path / "last.safetensors", other, None)
