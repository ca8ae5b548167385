"""On a CUDA card against the CPU: attacks, hardening, scans and edits give the same, within the memory that was told."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conftest import small_kl
from heard import Heard
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.devices import fast_products
from srlvae.harden import OBJECTIVES, Interrupted, harden
from srlvae.harden.progress import Progress
from srlvae.models.load import load_pipeline
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import load_vae
from srlvae.rng import generators
from srlvae.scan.calibration import calibrate_looks
from srlvae.scan.evidence import EVIDENCE
from srlvae.scan.likeness import TRAITS
from srlvae.scan.look import Encoders
from test_harden import CONFIG, make_photographs
from test_harden_memory import trainer_of, two_steps
from zoo_shapes import CONFIGURATIONS, large

DEVICE = "cuda"
STEPS = 2

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card"),
    # What the libraries of a card warn of differs from card to card.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, which keeps ten bits."""
    products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [product.allow_tf32 for product in products]
    for product in products:
        product.allow_tf32 = False
    yield
    for product, allowed in zip(products, before, strict=True):
        product.allow_tf32 = allowed


@functools.cache
def tiny(device: str) -> Pipeline:
    return load_pipeline("tiny-sd", device=device)


def photographs(count: int = 2, side: int = 64) -> Tensor:
    """Smooth random images of whole grey levels, `count 3 side side`."""
    noise = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.interpolate(noise, side, mode="bilinear")
    return (x * 255).round() / 255


class First(Trace):
    """Keeps the first gradient."""

    gradient: Tensor | None = None

    def __call__(self, value: Tensor, gradient: Tensor | None) -> None:
        if not self.values and gradient is not None:
            self.gradient = gradient.cpu()
        super().__call__(value, gradient)


def attacked(attack: PreparedAttack, x: Tensor) -> tuple[Tensor, list[First]]:
    """The images under an attack, on the CPU, and its traces. What attacks images one by one has a trace for each."""
    parts = x.to(attack.vae.device).split(1 if attack.request.attack.alone else len(x))
    traces = [First() for _ in parts]
    found = [attack.perturb(part, [f"{k}-{i}" for i in range(len(part))], traces[k]) for k, part in enumerate(parts)]
    return torch.cat(found).cpu(), traces


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_that_of_the_cpu(name):
    x, request = photographs(), Request(name, steps=STEPS)
    ours, theirs = (prepare(request, tiny(device)) for device in (DEVICE, "cpu"))
    (found, seen), (wanted, known) = attacked(ours, x), attacked(theirs, x)
    assert all(ours.keeps_budget(image, clean) for image, clean in zip(found, x, strict=True))
    for own, other in zip(seen, known, strict=True):
        # Some targets come out of fifty denoising steps.
        torch.testing.assert_close(own.values[0], other.values[0], rtol=5e-3, atol=1e-4)
        if own.gradient is not None and other.gradient is not None:
            # Where a gradient is nearly 0, its sign is that of the rounding.
            assert (own.gradient.sign() == other.gradient.sign()).float().mean() > 0.95
    vae = tiny("cpu").vae
    shifts = [(vae.mean(images) - vae.mean(x)).flatten(1).norm(dim=1) for images in (found, wanted)]
    # Such pixels have gone another way, and the later steps with them.
    torch.testing.assert_close(*shifts, rtol=0.1, atol=1e-3)


@pytest.mark.usefixtures("short_scores")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_short_hardening_in_half_precision_moves_the_encoder_and_stays_finite(precision, tmp_path):
    # So many steps that float16's scaler, which leaves out those that overflow, finds its scale.
    config = replace(CONFIG, steps=8, checkpoint_every=8, precision=precision)
    # It refuses to end with scores that are not finite, or with the encoder that it began with.
    hardened = harden(small_kl(), make_photographs(tmp_path / "photographs"), tmp_path / "out", config)
    moved = hardened.mean(photographs().to(hardened.device)).cpu() - small_kl().mean(photographs())
    assert moved.isfinite().all() and moved.abs().max() > 0


def test_a_hardening_goes_on_from_its_checkpoint(tmp_path):
    # The fused optimiser refuses moments in another layout than their weights.
    photographs = make_photographs(tmp_path / "photographs")
    with pytest.raises(Interrupted):
        harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=Heard(stop_at=2))
    steps = Heard()
    hardened = harden(small_kl(), photographs, tmp_path / "out", CONFIG, listener=steps)
    assert steps.numbers == list(range(3, CONFIG.steps + 1))
    assert all(weight.isfinite().all() for weight in hardened.model.state_dict().values())


def test_a_scan_is_that_of_the_cpu():
    vaes = ((tiny(device).vae, load_vae("tiny-srl", device)) for device in (DEVICE, "cpu"))
    looks = [Encoders(*pair, "no").look(photographs(16)) for pair in vaes]
    for field in ("evidence", "likeness", "thumbnail"):
        ours, theirs = (torch.tensor([list(getattr(look, field)) for look in own]).float() for own in looks)
        # A level of a thumbnail may be rounded the other way.
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1.0 if field == "thumbnail" else 1e-3)
    scores = [scores_of(own, looks[1]) for own in looks]
    torch.testing.assert_close(*scores, rtol=0, atol=0.1)


def scores_of(looks, clean) -> Tensor:
    """The scores of looks, in standard deviations of those at clean images."""
    evidence = torch.tensor([look.evidence for look in looks]).view(-1, len(EVIDENCE))
    traits = torch.tensor([look.likeness for look in looks]).view(-1, len(TRAITS))
    return calibrate_looks(clean, 0.2).scores(evidence, traits)


def test_an_edit_is_that_of_the_cpu():
    x, edited = photographs(1, tiny("cpu").size), []
    for device in (DEVICE, "cpu"):
        draws = generators(0, [0])
        edited.append(tiny(device).edit(x.to(device), ["a photo of a sunflower"], draws, steps=8).cpu())
    # A grey level: eight steps of guidance magnify what a GPU adds up in another order.
    torch.testing.assert_close(*edited, rtol=0, atol=1 / 255)


def test_two_steps_stay_finite_and_the_original_encodes_as_on_the_cpu():
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
    fast_products()  # as in a run; without it cuDNN takes more
    trainer = trainer_of(large(name), 128, 4, precision=precision)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    two_steps(trainer)
    assert trainer.fit.needed is not None
    assert torch.cuda.max_memory_allocated() - before < 1.2 * trainer.fit.needed


def test_the_memory_of_a_feature_network_on_the_card_is_counted_too():
    changes = {"objective": OBJECTIVES["srl-paper"], "features": "efficientnet-lite0"}
    assert trainer_of(small_kl(), 64, 4, **changes).fit.needed is not None


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
