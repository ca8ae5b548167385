"""APGD, views for the expectation over transformations, and the signs of an attack that failed."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_kl
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.apgd import apgd, checkpoints
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, pgd, project
from srlvae.attacks.engine.trace import Trace, transfer_doubts
from srlvae.attacks.engine.views import encoder, jpeg, random_jpeg, random_resize
from srlvae.attacks.papers.worst_case import keep_worst, worst_case
from srlvae.attacks.through import Through
from srlvae.images import to_levels, to_pil, to_tensor
from srlvae.models.memory import image_to_image_peak, saved_bytes
from srlvae.rng import generators, uniform_like

EPS = 8 / 255


# --- APGD


def test_checkpoints_are_those_of_the_paper():
    # Croce and Hein 2020, section 3.2: p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99.
    assert checkpoints(100) == {22, 41, 57, 70, 80, 87, 93, 99}


def valley(x):
    """A narrow, tilted valley with its lowest point inside the ball: long steps jump over it."""
    goal = (x + 0.3 * EPS).clamp(0, 1)
    weight = torch.logspace(-2, 2, x[0].numel()).view(x[0].shape)
    return lambda images: (weight * (images - goal).square()).flatten(1).sum(1)


def test_apgd_finds_what_a_long_fixed_step_jumps_over(x):
    objective = valley(x)
    fixed = pgd(x, objective, Ball(EPS, 40, 2 * EPS), generators=generators(0, [0, 1]))
    found = apgd(x, objective, Ball(EPS, 40, EPS), generators=generators(0, [0, 1]))
    # With halved steps 16,000 times lower; with steps that stay as long 900 times.
    assert (objective(found) < 2e-4 * objective(fixed)).all()


def waves(x):
    """Many valleys, between which progress stalls without a fall of the best."""
    weight = torch.linspace(1, 40, x[0].numel()).view(x[0].shape)
    return lambda images: torch.sin(weight * (images - x) * 30).flatten(1).sum(1) + torch.sin(images.flatten(1).sum(1) * 9) * 50


@pytest.mark.parametrize("steps", [40, 100])
@pytest.mark.parametrize("objective", [valley, waves])
def test_apgd_is_the_algorithm_of_the_paper(objective, steps, x):
    """Algorithm 1 of Croce and Hein 2020 for one image, which minimises."""
    x, seen = x[:1], []
    objective = objective(x)
    delta = before = project(EPS * uniform_like(x, generators(0, [0])), x, EPS, "linf")
    size, gains, since, halved, best_at_mark, last = 2 * EPS, 0, 0, True, math.inf, math.inf
    for step in range(steps + 1):
        images = (x + delta).requires_grad_()
        loss = objective(images)
        value, gradient = loss.item(), torch.autograd.grad(loss.sum(), images)[0]
        seen.append((value, delta, gradient))
        gains, since = gains + (0 < step and value < last), since + (step > 0)
        if step in checkpoints(steps):
            best = min(seen, key=lambda one: one[0])
            stalled = gains < 0.75 * since or (not halved and best[0] >= best_at_mark)
            if stalled:
                size, (value, delta, gradient) = size / 2, best
            halved, best_at_mark, gains, since = stalled, best[0], 0, 0
        z, share = project(delta - size * gradient.sign(), x, EPS, "linf"), 0.75 if step else 1.0
        moved = project(delta + share * (z - delta) + (1 - share) * (delta - before), x, EPS, "linf")
        before, delta, last = delta, moved, value
    assert size < EPS / 2
    # Scaled gradients are rounded to the same numbers.
    found = apgd(x, objective, Ball(EPS, steps, EPS), generators=generators(0, [0]))
    torch.testing.assert_close(found, x + min(seen, key=lambda one: one[0])[1])


def test_apgd_stays_in_ball_box_and_mask_and_treats_images_alone(x):
    objective, mask = valley(x), torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    both = apgd(x, objective, Ball(EPS, 9, EPS), generators=generators(0, [0, 1]), loop=Loop(mask=mask))
    assert 0 <= both.min() and both.max() <= 1 and torch.equal(both[..., 16:], x[..., 16:])
    # x + δ is rounded in float32.
    assert (both - x).abs().max() <= EPS + 1e-6
    noisy = valley(x)
    # Nor where the objective draws anew: an image does not draw because a neighbour has stalled.
    draws = generators(2, [0, 1])

    def drawn(images):
        return noisy(images) * (1 + torch.stack([torch.rand((), generator=g) for g in draws])[-len(images) :])

    with_neighbour = apgd(x, drawn, Ball(EPS, 30, EPS), generators=generators(0, [0, 1]))
    draws = generators(2, [0, 1])[1:]
    noisy = valley(x[1:])
    torch.testing.assert_close(apgd(x[1:], drawn, Ball(EPS, 30, EPS), generators=generators(0, [1])), with_neighbour[1:])
    alone = apgd(x[1:], valley(x[1:]), Ball(EPS, 9, EPS), generators=generators(0, [1]), loop=Loop(mask=mask[1:]))
    torch.testing.assert_close(alone, both[1:])


def test_the_best_of_apgds_restarts_is_kept(x):
    objective = valley(x)
    once = apgd(x, objective, Ball(EPS, 3, EPS), generators=generators(0, [0, 1]))
    often = apgd(x, objective, Ball(EPS, 3, EPS), generators=generators(0, [0, 1]), loop=Loop(restarts=4))
    assert (objective(often) <= objective(once)).all() and (objective(often) < objective(once)).any()


# --- views


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("size", [(48, 64), (37, 53)])
def test_jpeg_is_what_an_encoder_makes(quality, size):
    blobs = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(blobs, size, mode="bicubic").clamp(0, 1)
    file = io.BytesIO()
    to_pil(x[0]).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = to_tensor(Image.open(file))[None]
    found = jpeg(to_levels(x).float() / 255, quality)
    # libjpeg computes in integers, and smooths the chroma it has halved in its own way: a grey level or two.
    assert (found - expected).abs().mean() < 2 / 255
    # And it is no identity: the encoder's error is well above that.
    assert (x - expected).abs().mean() > 1.5 * (found - expected).abs().mean() or quality == 95


@pytest.mark.parametrize("view", [random_jpeg, random_resize])
def test_views_are_drawn_anew_image_by_image_and_pass_a_gradient(view, x):
    seen = view(generators(0, [0, 1]))
    first, second = seen(x), seen(x)
    assert first.shape == x.shape and not torch.equal(first, second)
    # Image 1 does not depend on image 0.
    torch.testing.assert_close(view(generators(0, [1]))(x[1:]), first[1:])
    images = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(seen(images).sum(), images)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_an_encoder_gives_the_mean_or_draws_from_the_posterior(x):
    vae = small_kl()
    assert torch.equal(encoder(vae, generators(0, [0, 1]), False)(x), vae.mean(x))
    encode = encoder(vae, generators(0, [0, 1]), True)
    many = torch.stack([encode(x) for _ in range(400)])
    spread = vae.model.encode(x * 2 - 1).latent_dist.std
    # The error of a mean of 400 draws is a twentieth of their spread; five of those for the worst of 512.
    assert ((many.mean(0) - vae.mean(x)).abs() < 5 * spread / 20).all()


@pytest.mark.parametrize("name", ["latent", "reconstruction", "photoguard-encoder", "adaptive"])
def test_attacks_on_the_mean_also_go_through_sampled_latents(name, x):
    vae, attack = small_kl(), ATTACKS[name].run
    ball = Ball(EPS, 2, EPS / 2)

    def run(indices=(0, 1), images=x, sampled=True):
        draws, loop = generators(0, indices), Loop(repeats=2 if sampled else 1)
        return attack(images, vae=vae, ball=ball, generators=draws, sampled=sampled, loop=loop)

    drawn = run()
    assert not torch.equal(drawn, run(sampled=False)) and torch.equal(drawn, run())
    # Image 1 does not depend on image 0, up to the sign of gradients near zero.
    assert (run((1,), x[1:]) != drawn[1:]).float().mean() < 0.001


def test_an_attack_through_a_purifier_takes_its_draws_a_step_and_one_start(x):
    through = Through({}, lambda images, draws: images, draws=3)
    for repeats, expected in ((1, 3), (5, 5)):
        loop = through.used(Loop(restarts=4, repeats=repeats), x, [])
        assert (loop.repeats, loop.restarts) == (expected, 1)


# --- the worst of several

ENSEMBLE = ("adaptive", "reconstruction", "latent", "photoguard_encoder", "mist_textural")


def test_each_image_keeps_what_hurt_it_most():
    candidates = [torch.full((3, 3, 2, 2), level) for level in (0.1, 0.2, 0.3)]
    table = iter([torch.tensor([3.0, 1.0, torch.nan]), torch.tensor([2.0, 5.0, 1.0]), torch.tensor([1.0, 4.0, 0.5])])
    kept, harms = keep_worst(candidates, lambda images: next(table))
    assert kept[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.2]) and harms.shape == (3, 3)


@pytest.mark.parametrize("worst", ENSEMBLE)
def test_any_attack_of_the_ensemble_may_be_the_worst(worst, x, monkeypatch):
    for name in ENSEMBLE:
        made = 1 - x if name == worst else x
        monkeypatch.setattr(f"srlvae.attacks.papers.worst_case.{name}", lambda x, made=made, **options: made)
    given = {"vae": small_kl(), "ball": Ball(EPS, 1, EPS), "generators": generators(0, [0, 1])}
    assert torch.equal(worst_case(x, harm=lambda images: (images - x).square().mean((1, 2, 3)), **given), 1 - x)


# --- signs of failure


def watched(values: list[list[float]], gradient: torch.Tensor) -> Trace:
    trace = Trace()
    for value in values:
        trace(torch.tensor(value), gradient)
    return trace


def test_an_attack_that_works_raises_no_doubt():
    assert watched([[1.0, 2.0], [0.5, 1.0], [0.2, 0.1]], torch.ones(2, 3, 4, 4)).doubts(2) == [[], []]


def test_a_failing_attack_is_doubted_image_by_image():
    gradient = torch.ones(3, 3, 4, 4)
    gradient[1, :2] = 0
    trace = watched([[1.0, 2.0, 1.0], [2.0, 1.0, np.nan], [3.0, 0.5, 0.1]], gradient)
    stuck, flat, broken = trace.doubts(3)
    assert stuck == ["the objective did not improve with the steps"]
    assert flat == ["67% of the gradient is zero or not finite"] and broken == ["the objective is not finite"]
    assert trace.ends(0) == [1.0, 3.0]


def test_of_several_starts_each_is_compared_with_itself():
    trace = Trace()
    # Each start improves, and the second begins where the first began.
    for value in (4.0, 3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 3.0):
        trace(torch.tensor([value]), torch.ones(1, 3, 4, 4))
    assert trace.doubts(1) == [["the objective did not improve with the steps"]]
    trace.starts = 2
    assert trace.doubts(1) == [[]] and trace.ends(0) == [5.0, 2.0] and trace.fell_at_last(0) == pytest.approx(1 / 3)


def test_a_gradient_that_is_not_finite_is_doubted():
    gradient = torch.ones(1, 3, 4, 4)
    gradient[:, :, 1:] = np.nan
    assert watched([[2.0], [1.0]], gradient).doubts(1) == [["75% of the gradient is zero or not finite"]]


def test_a_step_whose_objective_does_not_compare_is_counted_alone():
    told = []
    trace = Trace(lambda step, objective: told.append((step, objective)))
    for value in (None, torch.tensor([2.0]), torch.tensor([1.0]), None):
        trace(value, None)
    assert told == [(1, None), (2, 2.0), (3, 1.0), (4, None)]
    assert trace.ends(0) == [2.0, 1.0] and trace.doubts(1) == [[]]


def test_a_run_of_one_step_says_nothing():
    assert watched([[1.0]], torch.zeros(1, 3, 4, 4)).doubts(1) == [[]] and Trace().doubts(2) == [[], []]


def test_transfer_beyond_white_box_is_doubted():
    strong, weak = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    assert transfer_doubts(weak, strong) == []
    assert transfer_doubts(strong, weak) == ["the same attack in transfer is stronger: this one is too weak"]


# --- memory


def test_what_a_network_keeps_is_counted_once():
    weight = torch.nn.Parameter(torch.ones(8, 8))
    x = torch.ones(4, 8, requires_grad=True)
    # x for the weight's gradient, and the result of tanh: 32 numbers of 4 bytes each; the weight itself is no activation.
    assert saved_bytes(lambda: torch.tanh(x @ weight)) == 2 * 32 * 4


def test_the_estimate_grows_with_pixels_and_images_and_names_its_parts():
    from pipelines import sd15

    pipeline = sd15(small_kl())
    small, large, two = (image_to_image_peak(pipeline, *size) for size in ((64, 64, 1), (128, 128, 1), (64, 64, 2)))
    weights = sum(p.numel() for part in ("unet", "vae", "text_encoder") for p in getattr(pipeline.pipe, part).parameters())
    assert small.weights == large.weights == 4 * weights
    # Four times the pixels, twice the images; a few activations (of time and text) do not grow.
    assert 3 < large.step / small.step < 4.2 and large.decoder / small.decoder == pytest.approx(4, rel=0.05)
    assert two.encoder / small.encoder == pytest.approx(2, rel=0.05)
    assert large.total == large.weights + large.encoder + max(large.step, large.decoder)
    assert str(large).startswith("about 0.") and "one denoising step" in str(large)
