"""Hardening on a CUDA card against the CPU: the same numbers, the memory that was told, and no waiting within a step."""

from __future__ import annotations

import pytest
import torch

from conftest import small_kl
from srlvae.harden.progress import Progress
from test_harden_memory import trainer_of, two_steps
from zoo_shapes import CONFIGURATIONS, large

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")


def test_a_gradient_is_that_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    trainer = trainer_of(small_kl(), 64, 4)
    two_steps(trainer)
    found = [p.detach().cpu() for p in trainer.parameters]
    assert all(p.isfinite().all() for p in found)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        trainer.networks.original.mean(x.to(trainer.device)).cpu(), small_kl().mean(x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_memory_is_within_the_estimate(name, precision):
    trainer = trainer_of(large(name), 128, 4, precision=precision)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    two_steps(trainer)
    assert trainer.fit.needed is not None
    assert torch.cuda.max_memory_allocated() - before < 1.2 * trainer.fit.needed


def test_nothing_waits_for_the_card_before_the_one_moment_of_a_step():
    trainer, progress = trainer_of(small_kl(), 64, 4), Progress()
    two_steps(trainer)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._gradients(progress, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_float16_holds_on_sdxl():
    trainer = trainer_of(large("sdxl"), 128, 4, precision="fp16")
    two_steps(trainer)
    assert all(p.isfinite().all() for p in trainer.parameters)
