"""Which precision networks compute in, and what float16's scaler does."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from conftest import small_kl
from pipelines import sd15
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.cli.shared import device_of
from srlvae.errors import InputError
from srlvae.harden import HardenConfig
from srlvae.harden.trainer import Trainer
from srlvae.precision import computing, settled
from srlvae.training.precision import keep_norms_float32, make_accelerator
from srlvae.training.processes import too_few_gpus


@pytest.fixture
def four_processes_on_one_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)


@pytest.mark.usefixtures("four_processes_on_one_gpu")
def test_processes_share_a_gpu_but_do_not_train_together_on_it(monkeypatch):
    monkeypatch.setattr("srlvae.devices.default_device", lambda: torch.device("meta"))
    assert too_few_gpus() and device_of("auto").type == "meta"
    with pytest.raises(InputError, match="4 processes were started that see 1 GPUs"):
        Trainer(small_kl(), HardenConfig(), torch.rand(2, 3, 64, 64))


def test_an_accelerator_computes_on_the_device_that_it_is_given():
    given = make_accelerator("bf16", torch.device("meta"))
    assert given.device.type == "meta" and make_accelerator("no").device.type == "cpu"


def test_group_norms_compute_in_float32_and_convolutions_do_not():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3))
    seen = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        plain = net(x)
        assert set(seen.values()) == {torch.bfloat16}
        keep_norms_float32(net)
        kept = net(x)
    assert seen == {"0": torch.bfloat16, "1": torch.float32, "2": torch.bfloat16}
    # Numbers of about one, with eight bits: a few of their last ones.
    torch.testing.assert_close(kept, plain, rtol=0, atol=0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float32)])
def test_what_networks_compute_in(precision, dtype):
    net, x = nn.Conv2d(3, 8, 3), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with computing(settled(precision), torch.device("cpu")):
        assert net(x).dtype == dtype
    assert net(x).dtype == torch.float32


def test_auto_is_settled_by_the_device_and_others_are_what_is_computed_on_it(monkeypatch):
    cpu, card = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("srlvae.precision.bf16_pays", lambda device: device.type == "cuda")
    assert [settled("auto", device) for device in (cpu, card)] == ["no", "bf16"]
    monkeypatch.setattr("srlvae.precision.default_device", lambda: card)
    assert settled("auto") == "bf16"
    assert [settled(precision, card) for precision in ("no", "bf16", "fp16")] == ["no", "bf16", "fp16"]
    assert [settled(precision, cpu) for precision in ("no", "bf16", "fp16")] == ["no", "bf16", "no"]
    with pytest.raises(InputError, match="precision is one of auto, no, bf16, fp16, got half"):
        settled("half")


def test_an_attack_computes_in_the_precision_that_is_asked_for(vae, x):
    seen = set()
    vae.model.encoder.conv_in.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    found = {}
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        attack = prepare(Request("latent", eps=8 / 255, steps=3, precision=precision), vae)
        found[precision] = attack.perturb(x, ["a", "b"])
        assert seen == {dtype} and found[precision].dtype == torch.float32
        assert (attack.settings().get("precision") or "no") == precision
    # Half a level more, as `x` lies between levels.
    assert all((y - x).abs().max() <= 8.5 / 255 + 1e-6 for y in found.values()) and not torch.equal(*found.values())
    # Most signs of gradients are the same.
    assert ((found["no"] - x).sign() == (found["bf16"] - x).sign()).float().mean() > 0.8
    with pytest.raises(InputError, match="precision is one of"):
        Request("latent", precision="half")


def test_a_pipeline_generates_in_its_precision_and_so_do_its_copies():
    pipeline, seen = sd15(small_kl()), set()
    pipeline.pipe.unet.conv_in.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    draws = [torch.Generator().manual_seed(0)]
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        pipeline.precision = precision
        image = pipeline.with_vae(pipeline.vae).generate(["a"], draws, steps=1)
        assert seen == {dtype} and image.dtype == torch.float32


def test_two_precisions_in_one_process_do_not_disturb_each_other():
    half, full = make_accelerator("bf16"), make_accelerator("no")
    net, x = nn.Conv2d(3, 8, 3), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with half.autocast():
        assert net(x).dtype == torch.bfloat16
    with full.autocast():
        assert net(x).dtype == torch.float32
    assert (half.mixed_precision, full.mixed_precision) == ("bf16", "no")


@pytest.fixture
def set_up_by_the_caller():
    """accelerate's state as a caller leaves it; put back afterwards, as accelerate cannot change it any more."""
    before = dict(AcceleratorState._shared_state)
    AcceleratorState._reset_state()
    yield Accelerator(mixed_precision="bf16")
    AcceleratorState._reset_state()
    AcceleratorState._shared_state.update(before)


def test_a_precision_that_the_caller_gave_to_accelerate_is_refused_and_left_alone(set_up_by_the_caller):
    with pytest.raises(InputError, match="mixed_precision='bf16' in this process"):
        make_accelerator("no")
    assert set_up_by_the_caller.mixed_precision == "bf16"


def float16_step(gradient: float) -> tuple[torch.Tensor, float]:
    """A weight after a step with float16's scaler on a loss of this gradient, and the scale after it."""
    weight = nn.Parameter(torch.ones(1))
    accelerator, optimizer = make_accelerator("no"), torch.optim.SGD([weight], lr=1.0)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    accelerator.backward(gradient * weight.sum())
    accelerator.clip_gradients(optimizer, [weight], 0.5)
    accelerator.step(optimizer)
    return weight.detach(), accelerator.scaler.get_scale()


def test_a_checkpoint_keeps_the_scale_of_float16():
    first, second = make_accelerator("no"), make_accelerator("no")
    assert first.scaling() == {}
    first.scaler, second.scaler = torch.amp.GradScaler("cpu", init_scale=256.0), torch.amp.GradScaler("cpu")
    # A scaler has a scale from its first loss on.
    second.scaler.scale(torch.ones(()))
    second.restore_scaling({})
    assert second.scaler.get_scale() == 65536
    second.restore_scaling(first.scaling())
    assert second.scaler.get_scale() == 256


def test_gradients_are_unscaled_before_they_are_clipped():
    # A quarter is below the norm of one half, 1024 times it is not.
    weight, scale = float16_step(0.25)
    assert weight.item() == 0.75 and scale == 1024
    weight, _ = float16_step(2.0)
    assert weight.item() == pytest.approx(0.5, abs=1e-5)  # torch divides by the norm and 1e-6


def test_a_step_that_overflows_is_left_out_and_the_scale_is_halved():
    weight, scale = float16_step(float("inf"))
    assert weight.item() == 1 and scale == 512
