"""Every attack through the same postconditions, the loop against closed forms, the objectives against their papers."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch

from conftest import small_kl, small_tiny, smooth_images
from pipelines import little
from small import RandomFeatures
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball, Perceptual, step_across
from srlvae.attacks.engine.perceptual import within_budget
from srlvae.attacks.engine.pgd import Adam, Loop, better, pgd, project, slope, steepest
from srlvae.attacks.engine.several import summed
from srlvae.attacks.papers.adaptive import adaptive
from srlvae.attacks.papers.latent import latent_objective
from srlvae.attacks.papers.layers import blocks_of, layers_objective
from srlvae.attacks.papers.mist import texture
from srlvae.attacks.papers.photoguard import photoguard_encoder, photoguard_encoder_objective
from srlvae.attacks.papers.posterior_collapse import divergence_objective
from srlvae.attacks.papers.reconstruction import reconstruction_objective
from srlvae.attacks.papers.worst_case import worst_case
from srlvae.errors import InputError
from srlvae.metrics.pairwise import feature_distance
from srlvae.rng import generators

EPS = 8 / 255


def far(vae, x, a):
    return ((vae.mean(a) - vae.mean(x)) ** 2).flatten(1).mean(1)


def broken(vae, x, a):
    return ((vae.decode(vae.mean(a)) - x) ** 2).flatten(1).mean(1)


def posterior_moved(vae, x, a):
    (mean, log_variance), (moved, log_moved) = vae.posterior(x), vae.posterior(a)
    return ((moved - mean) ** 2).flatten(1).mean(1) + ((log_moved - log_variance) ** 2).flatten(1).mean(1)


def divergence(vae, a, variance):
    """Kullback and Leibler's, by torch, less its constant."""
    posterior = torch.distributions.Normal(*(part if i == 0 else (part / 2).exp() for i, part in enumerate(vae.posterior(a))))
    prior = torch.distributions.Normal(torch.zeros(()), torch.tensor(variance**0.5))
    return (torch.distributions.kl_divergence(posterior, prior) - 0.5 * np.log(variance)).flatten(1).sum(1)


def blocks_moved(vae, x, a):
    """The relative squared change after each block of a small AutoencoderKL's encoder, by hand."""
    encoder, total = vae.model.encoder, 0
    clean, moved = 2 * x - 1, 2 * a - 1
    stages = [encoder.conv_in, *encoder.down_blocks, encoder.mid_block, encoder.conv_norm_out]
    for stage in [*stages, lambda h: encoder.conv_out(encoder.conv_act(h))]:
        clean, moved = stage(clean), stage(moved)
        total = total + (moved - clean).flatten(1).square().sum(1) / clean.flatten(1).square().sum(1)
    return total


# What each attack makes large, from its paper: (vae, clean images, attacked images) → one number an image.
PUBLISHED = {
    "reconstruction": broken,
    "latent": far,
    "pid": posterior_moved,
    "photoguard-encoder": lambda vae, x, a: -(vae.mean(a) ** 2).flatten(1).sum(1).sqrt(),
    "pca-": lambda vae, x, a: -divergence(vae, a, 1e-8),
    "pca+": lambda vae, x, a: divergence(vae, a, 1.0),
    "blurguard": lambda vae, x, a: -(vae.to_scaled(vae.mean(a)) ** 2).flatten(1).mean(1),
    "dct-shield": lambda vae, x, a: -(vae.mean(a) ** 2).flatten(1).sum(1).sqrt(),
    "square": lambda vae, x, a: broken(vae, x, a),
    "layers": lambda vae, x, a: blocks_moved(vae, x, a),
    "mist-textural": lambda vae, x, a: -far(vae, texture(32, 32).expand_as(x), a),
    "adaptive": lambda vae, x, a: broken(vae, x, a) + 0.02 * far(vae, x, a) / vae.mean(x).flatten(1).var(1),
    "worst-case": broken,
}
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_attack_on_a_vae = pytest.mark.parametrize("name", PUBLISHED)
# So that attacks with a perceptual budget need no network of another package.
PERCEPTUAL = ("glaze", "nightshade")


@functools.cache
def narrow_pipeline():
    return little(small_kl())


def run(name: str, vae, x, indices=None, steps: int = 4, **options):
    draws = generators(5, range(len(x)) if indices is None else indices)
    model = {"vae": vae} if ATTACKS[name].needs == "vae" else {"pipeline": narrow_pipeline().with_vae(vae)}
    if ATTACKS[name].needs == "pipeline":
        steps = min(steps, 2)
    if name in PERCEPTUAL:
        options["features"] = RandomFeatures()
    ball = Ball(EPS, steps, EPS / 2, perceptual=Perceptual(0.05) if name == "glaze" else None)
    return ATTACKS[name].run(x, **model, ball=ball, generators=draws, **options)


@functools.cache
def usual(name: str) -> torch.Tensor:
    """What the attack makes of `x` on `vae`, for tests that compare it with another run."""
    return run(name, small_kl(), smooth_images())


@pytest.fixture
def extreme(x) -> torch.Tensor:
    """The images with more contrast, so that many pixels are 0 or 1."""
    return ((x - 0.5) * 3 + 0.5).clamp(0, 1)


# --- every attack


def test_every_attack_on_a_vae_has_its_formula_here():
    assert PUBLISHED.keys() == {name for name, attack in ATTACKS.items() if attack.needs == "vae"}


@every_attack
def test_attacked_images_are_images_within_the_budget(name, vae, extreme):
    adversarial = run(name, vae, extreme)
    assert adversarial.shape == extreme.shape and adversarial.dtype == torch.float32 and not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert not torch.equal(adversarial, extreme)
    # x + δ is rounded to float32 once more than δ was.
    assert 0 < (adversarial - extreme).abs().max() <= EPS + 1e-6


@every_attack
def test_the_model_is_left_as_it_was_found(name, vae, x):
    vae.model.train()
    vae.model.encoder.requires_grad_(True)
    weights = vae.fingerprint()
    run(name, vae, x)
    assert all(module.training for module in vae.model.modules()) and vae.fingerprint() == weights
    asks = {key for key, p in vae.model.named_parameters() if p.requires_grad}
    assert asks == {f"encoder.{key}" for key, _ in vae.model.encoder.named_parameters()}
    assert all(p.grad is None for p in vae.model.parameters())


@every_attack
def test_the_clean_images_and_the_global_generators_are_untouched(name, vae, x):
    narrow_pipeline()  # is built from a global seed, once
    # Not Python's own generator: the run-time checks of types pick their samples by it.
    copy, torch_state, numpy_state = x.clone(), torch.get_rng_state(), np.random.get_state()
    run(name, vae, x)
    assert torch.equal(x, copy) and not x.requires_grad
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state[2] == np.random.get_state()[2] and (numpy_state[1] == np.random.get_state()[1]).all()


@every_attack
def test_an_attack_is_a_function_of_its_generators(name, vae, x):
    assert torch.equal(run(name, vae, x, [0, 1]), usual(name))
    assert not torch.equal(run(name, vae, x, [2, 3]), usual(name))


@every_attack
def test_an_image_does_not_depend_on_its_neighbours(name, vae, x):
    one, other = usual(name), run(name, vae, torch.stack([1 - x[0], x[1]]))
    # The same sums in the same order: batches have one size.
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])


@every_attack_on_a_vae
def test_an_image_is_attacked_alone_as_in_a_batch(name, vae, x):
    together, alone = usual(name)[1:], run(name, vae, x[1:], [1])
    # A rounding of the gradient may flip the sign of a pixel that hardly matters: compare what the attack is for.
    reached = PUBLISHED[name](vae, x[1:], together)
    torch.testing.assert_close(PUBLISHED[name](vae, x[1:], alone), reached, rtol=1e-3, atol=1e-6)


@every_attack_on_a_vae
def test_an_attack_gains_by_its_steps(name, vae, x):
    start, end = run(name, vae, x, steps=0), run(name, vae, x, steps=8)
    # On average: where an attack draws latents, its last iterate may be an unlucky one.
    assert PUBLISHED[name](vae, x, end).mean() > PUBLISHED[name](vae, x, start).mean()


@every_attack
def test_pixels_outside_the_mask_stay_as_they_were(name, vae, x):
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, :16], mask[1, :, :, 8:] = 1, 1
    adversarial = run(name, vae, x, loop=Loop(mask=mask))
    inside = mask.bool().expand_as(x)
    assert torch.equal(adversarial[~inside], x[~inside])
    assert not torch.equal(adversarial[inside], x[inside])


@every_attack
def test_an_attack_heeds_a_penalty_that_outweighs_its_objective(name, vae, x):
    slopes = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    plain, heeds = (run(name, vae, x, loop=Loop(penalty=penalty)) for penalty in (None, linear(1e6 * slopes)))
    cost, before = (((moved - x) * slopes).flatten(1).sum(1) for moved in (heeds, plain))
    assert (cost < 0).all() and (cost < before).all()


@every_attack
def test_the_settings_of_an_attack_are_budgets_in_0_to_1_and_are_sourced(name):
    for preset in ATTACKS[name].presets.values():
        ball = preset.ball
        assert ball.steps > 0 and len(preset.source) > 10
        # Where there is no radius there is a perceptual budget.
        assert 0 < ball.step_size <= ball.eps if ball.eps is not None else ball.perceptual is not None
        assert ball.norm == "l2" or ball.eps is None or ball.eps <= 16 / 255
        assert all(ATTACKS[name].takes(option) for option in preset.options)


# Effective radii of the published codes in 255ths, half of which run on [-1,1] images and say twice as much.
EFFECTIVE = {
    ("photoguard-encoder", "paper"): 16, ("photoguard-encoder", "notebook"): 7.65, ("photoguard-encoder", "app"): 15.3,
    ("mist-textural", "v1"): 16, ("mist-textural", "v2"): 4, ("mist-fused", "v1"): 16, ("advdm", "diff-protect"): 16,
    ("advdm", "gridpure"): 4, ("sds+", "diff-protect"): 16, ("anti-dreambooth", "aspl"): 6.375, ("diffusionguard", "code"): 8,
    ("nightshade", "code"): 10.2, ("pid", "paper"): 12.75, ("pca-", "paper"): 16, ("pca+", "paper"): 16,
    ("blurguard", "code"): 16, ("ace", "code"): 4, ("ace+", "code"): 4, ("styleguard", "code"): 6.375,
}  # fmt: skip


@pytest.mark.parametrize(("name", "preset"), EFFECTIVE)
def test_published_budgets_are_the_effective_ones(name, preset):
    # Decimal fractions in float64.
    assert ATTACKS[name].presets[preset].ball.eps * 255 == pytest.approx(EFFECTIVE[name, preset], rel=1e-12)


def test_small_gradients_survive_half_precision():
    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def objective(images):
        return 3e-8 * images.half().float().flatten(1).sum(1)

    _, gradient = slope(objective, x)
    # Half precision has eleven bits.
    torch.testing.assert_close(gradient, torch.full_like(x, 3e-8), rtol=1e-3, atol=0)


def test_pid_on_the_variance_alone_raises_it_and_wants_a_posterior(vae, x):
    start, end = run("pid", vae, x, steps=0), run("pid", vae, x, steps=8, variance_alone=True)
    assert (vae.posterior(end)[1].mean((1, 2, 3)) > vae.posterior(start)[1].mean((1, 2, 3))).all()
    with pytest.raises(InputError, match="no posterior"):
        run("pid", small_tiny(), x)


# --- the loop against closed forms


def linear(weight: torch.Tensor):
    return lambda x: (weight[: len(x)] * x).flatten(1).sum(1)


@pytest.fixture
def weight() -> torch.Tensor:
    """Slopes of two images, a thousand times steeper in the second."""
    slopes = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return slopes * torch.tensor([1.0, 1000.0])[:, None, None, None]


def test_a_linear_objective_ends_in_the_corner_of_the_ball(weight, extreme):
    best = pgd(extreme, linear(weight), Ball(EPS, 6, EPS / 2), generators=generators(0, [0, 1]))
    # The corner is reached by clamping: only x + δ is rounded.
    torch.testing.assert_close(best, (extreme - EPS * weight.sign()).clamp(0, 1), rtol=0, atol=1e-7)


def test_a_linear_objective_ends_along_its_gradient_in_l2(weight):
    x, radius = torch.full((2, 3, 32, 32), 0.5), 2.0
    best = pgd(x, linear(weight), Ball(radius, 8, 0.5, "l2"))
    direction = weight / weight.flatten(1).norm(dim=1)[:, None, None, None]
    # Eight sums of float32 steps of at most 0.1 a pixel.
    torch.testing.assert_close(best, x - radius * direction, rtol=0, atol=1e-6)


def test_a_step_in_l2_has_its_length_within_the_mask(weight):
    x, mask = torch.full((2, 3, 32, 32), 0.5), torch.zeros(2, 1, 32, 32)
    mask[..., :4] = 1
    moved = pgd(x, linear(weight), Ball(2.0, 1, 0.5, "l2"), loop=Loop(mask=mask)) - x
    # Norms of 3072 numbers summed in float32.
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((2,), 0.5), rtol=1e-4, atol=0)


def test_a_linear_schedule_falls_towards_a_hundredth(weight):
    x = torch.full((2, 3, 32, 32), 0.5)
    best = pgd(x, linear(weight), Ball(0.4, 3, 0.1, falls=True))
    # Three sums of numbers under one in float32.
    torch.testing.assert_close(best, x - 0.1 * (1 + 0.67 + 0.34) * weight.sign(), rtol=0, atol=1e-6)


def test_a_zero_gradient_moves_nothing(x):
    for norm in ("linf", "l2"):
        assert torch.equal(pgd(x, linear(torch.zeros_like(x)), Ball(EPS, 2, EPS, norm)), x)


def test_no_budget_changes_nothing(x, weight):
    for norm in ("linf", "l2"):
        draws = generators(0, [0, 1])
        assert torch.equal(pgd(x, linear(weight), Ball(0.0, 2, 0.1, norm), generators=draws), x)


def test_steepest_has_unit_norm(weight):
    assert steepest(weight, "linf").abs().unique().tolist() == [1.0]
    # Norms of 3072 numbers summed in float32.
    torch.testing.assert_close(steepest(weight, "l2").flatten(1).norm(dim=1), torch.ones(2), rtol=1e-5, atol=0)


def test_adam_is_the_one_of_torch(weight):
    pixels = torch.nn.Parameter(torch.zeros_like(weight))
    reference, rule, mine = torch.optim.Adam([pixels], lr=0.01), Adam(), torch.zeros_like(weight)
    for scale in (1.0, -0.5, 3.0):
        pixels.grad = scale * weight
        reference.step()
        mine = mine - 0.01 * rule(scale * weight)
    # The same formula; torch adds its 1e-8 at another place.
    torch.testing.assert_close(mine, pixels.detach(), rtol=1e-4, atol=1e-7)


def test_the_best_of_restarts_is_kept_image_by_image(x):
    # A basin on either side of each image, the deeper one above: random starts find one or the other.
    def basins(images):
        moved = (images - x).mean((1, 2, 3))
        return -moved.abs() - 0.2 * moved.clamp_min(0)

    ball, x = Ball(EPS, 4, EPS / 2), (0.8 * x + 0.1).repeat(4, 1, 1, 1)
    once = pgd(x, basins, ball, generators=generators(0, range(8)))
    often = pgd(x, basins, ball, generators=generators(0, range(8)), loop=Loop(restarts=10))
    # One start in two leads into the shallow basin; ten of them do so once in a thousand times.
    assert 0 < (basins(once) < -1.1 * EPS).sum() < 8 and (basins(often) < -1.1 * EPS).all()


def test_the_gradient_is_averaged_over_repeats(x, weight):
    draws = iter([3.0, -1.0])
    seen = []

    def noisy(images):
        return next(draws) * linear(weight)(images)

    pgd(x, noisy, Ball(EPS, 1, EPS), keep_best=False, loop=Loop(repeats=2, watch=lambda v, g: seen.append(g)))
    # (3 − 1) / 2 = 1, in float32.
    torch.testing.assert_close(seen[0], weight)


def test_what_would_be_paid_for_and_thrown_away_is_refused(x, weight):
    ball, draws, flip = Ball(EPS, 1, EPS), generators(0, [0, 1]), torch.Tensor.clone
    for refused in (
        lambda: pgd(x, linear(weight), ball, loop=Loop(restarts=2)),
        lambda: pgd(x, linear(weight), ball, generators=draws, loop=Loop(restarts=2), keep_best=False),
        lambda: pgd(x, linear(weight), ball, generators=draws, loop=Loop(restarts=2, view=flip)),
    ):
        with pytest.raises(InputError, match="thrown away"):
            refused()
    with pytest.raises(InputError, match="no best iterate"):
        pgd(x, linear(weight), ball, loop=Loop(view=flip), keep_best=True)
    with pytest.raises(InputError, match="needs a radius"):
        pgd(x, linear(weight), Ball(None, 1, EPS), generators=draws)


def test_a_resized_ball_keeps_its_ratio_and_can_still_be_crossed():
    ball = Ball(8 / 255, 40, 1 / 255)
    assert ball.resized() == ball
    # Fractions in float64.
    assert ball.resized(eps=16 / 255).step_size == pytest.approx(2 / 255, rel=1e-12)
    assert ball.resized(steps=100).step_size == ball.step_size
    short = ball.resized(steps=4)
    assert short.steps == 4 and short.step_size == step_across(8 / 255, 4) == pytest.approx(5 / 255, rel=1e-12)
    # Without a radius a step is a learning rate.
    assert Ball(None, 500, 0.005).resized(steps=2).step_size == 0.005
    assert Ball(None, 500, 0.005).resized(eps=16 / 255).step_size == 0.005
    assert Ball.crossed(EPS, 10) == Ball(EPS, 10, 0.25 * EPS)


def test_without_a_radius_pixels_are_bound_by_the_box_alone(x, weight):
    moved = pgd(x, linear(weight), Ball(None, 4, 0.5))
    assert torch.equal(moved, (weight < 0).float())


def test_the_objective_sees_the_view(x, weight):
    flipped = pgd(x, linear(weight), Ball(EPS, 1, EPS), loop=Loop(view=lambda images: images.flip(-1)))
    assert torch.equal(flipped, pgd(x, linear(weight.flip(-1)), Ball(EPS, 1, EPS), keep_best=False))


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_penalty_is_added_to_the_objective(keep_best, x, weight):
    ball, other = Ball(EPS, 3, EPS / 2), linear(weight.flip(-1))
    whole = pgd(x, lambda images: linear(weight)(images) + other(images), ball, keep_best=keep_best)
    assert torch.equal(pgd(x, linear(weight), ball, keep_best=keep_best, loop=Loop(penalty=other)), whole)


def test_a_penalty_is_of_the_images_and_not_of_what_the_view_shows(x, weight):
    loop = Loop(view=lambda images: 0 * images, penalty=linear(weight))
    found = pgd(x, linear(1000 * weight.flip(-1)), Ball(EPS, 1, EPS), loop=loop)
    assert torch.equal(found, pgd(x, linear(weight), Ball(EPS, 1, EPS), keep_best=False))


def test_the_loop_costs_a_pass_a_step_and_one_to_keep_the_best(x, weight):
    calls = []

    def counted(images):
        calls.append(images)
        return linear(weight)(images)

    pgd(x, counted, Ball(EPS, 3, EPS), keep_best=False)
    assert len(calls) == 3
    pgd(x, counted, Ball(EPS, 3, EPS))
    assert len(calls) == 3 + 4


# --- projection


@pytest.mark.parametrize("norm", ["linf", "l2", "rms"])
def test_projection_ends_in_ball_and_box_and_stays_there(norm, extreme, weight):
    delta = project(weight, extreme, 0.5, norm)
    sizes = {"linf": delta.abs().amax((1, 2, 3)), "l2": delta.square().sum((1, 2, 3)).sqrt()}
    size = (sizes | {"rms": delta.square().mean((1, 2, 3)).sqrt()})[norm]
    # Norms of 3072 numbers summed in float32.
    assert (size <= 0.5 * (1 + 1e-5)).all() and (size > 0).all()
    # (x + δ) − x is rounded in float32.
    assert (extreme + delta).min() >= -1e-7 and (extreme + delta).max() <= 1 + 1e-7
    torch.testing.assert_close(project(delta, extreme, 0.5, norm), delta, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_leaves_what_is_inside(norm):
    x, delta = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.01)
    # (x + δ) − x is rounded in float32.
    torch.testing.assert_close(project(delta, x, 0.5, norm), delta, rtol=0, atol=1e-7)


def test_projection_on_the_l2_ball_keeps_the_direction(weight):
    x = torch.full((2, 3, 32, 32), 0.5)
    expected = 0.5 * weight / weight.flatten(1).norm(dim=1)[:, None, None, None]
    # (x + δ) − x is rounded in float32.
    torch.testing.assert_close(project(weight, x, 0.5, "l2"), expected, rtol=1e-5, atol=1e-7)


# --- the start


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_is_in_ball_and_box(norm, extreme, weight):
    start = pgd(extreme, linear(weight), Ball(EPS, 0, 0.0, norm), generators=generators(0, [0, 1]))
    assert start.min() >= 0 and start.max() <= 1
    moved = start - extreme
    size = moved.abs().flatten(1).amax(1) if norm == "linf" else moved.flatten(1).norm(dim=1)
    # x + δ is rounded in float32, at each of 3072 pixels for ℓ2.
    assert (size > EPS / 2).all() and (size <= EPS + 1e-6).all()


def test_the_objective_sees_images_only_from_its_random_start_on(extreme, weight):
    def checked(images):
        # (x + δ) − x is rounded in float32.
        assert images.min() >= -1e-7 and images.max() <= 1 + 1e-7
        return linear(weight)(images)

    pgd(extreme, checked, Ball(0.5, 3, 0.5), generators=generators(0, [0, 1]))


def test_without_generators_the_start_is_the_image_itself(x, weight):
    assert torch.equal(pgd(x, linear(weight), Ball(EPS, 0, 0.0)), x)


# --- the best iterate


def overshooting(x):
    """Smallest 0.3 ε away from the images: a step of 2 ε jumps over it from corner to corner."""
    goal = (x + 0.3 * EPS).clamp(0, 1)
    return lambda images: (images - goal).square().flatten(1).mean(1)


def test_the_best_iterate_is_kept_and_not_the_last(x):
    objective, ball = overshooting(x), Ball(EPS, 3, 2 * EPS)
    best, last = pgd(x, objective, ball), pgd(x, objective, ball, keep_best=False)
    assert (objective(best) < objective(last)).all()
    assert torch.equal(best, x)


def test_the_best_iterate_is_kept_for_each_image(x, weight):
    overshoots = overshooting(x)

    def mixed(images):
        return torch.stack([overshoots(images)[0], linear(weight)(images)[1]])

    best = pgd(x, mixed, Ball(EPS, 3, 2 * EPS))
    assert torch.equal(best[0], x[0])
    # The corner is reached by clamping: only x + δ is rounded.
    torch.testing.assert_close(best[1], (x[1] - EPS * weight[1].sign()).clamp(0, 1), rtol=0, atol=1e-7)


def test_a_value_that_is_not_finite_never_wins(x):
    zero, far = torch.zeros_like(x), torch.ones_like(x)
    delta, value = better(far, torch.tensor([torch.nan, torch.inf]), zero, torch.tensor([1.0, torch.inf]))
    assert torch.equal(delta, zero) and value.tolist() == [1.0, torch.inf]


def test_a_value_of_minus_infinity_never_wins(x):
    zero, far = torch.zeros_like(x), torch.ones_like(x)
    delta, value = better(far, torch.tensor([-torch.inf, -2.0]), zero, torch.tensor([1.0, 1.0]))
    assert torch.equal(delta[0], zero[0]) and torch.equal(delta[1], far[1]) and value.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_objective_that_breaks_for_one_image_returns_its_last_good_iterate(norm, x, weight):
    def broken(images):
        moved = (images - x).detach().abs().flatten(1).amax(1) > 1e-6
        return torch.where(moved & torch.tensor([True, False]), torch.nan, 1.0) * linear(weight)(images)

    adversarial = pgd(x, broken, Ball(EPS, 3, EPS / 2, norm))
    assert torch.equal(adversarial[0], x[0]) and not torch.equal(adversarial[1], x[1])
    # Clean arithmetic for the other image: the same as without the broken one.
    assert torch.equal(adversarial[1], pgd(x, linear(weight), Ball(EPS, 3, EPS / 2, norm))[1])


@pytest.mark.parametrize("norm", ["linf", "l2", "rms", "adam"])
def test_one_gradient_that_is_not_finite_costs_its_image_one_step(norm, x, weight):
    """It may come and go, as of a product that overflows."""
    rule, ball = (Adam, Ball(EPS, 4, EPS / 2)) if norm == "adam" else (None, Ball(EPS, 4, EPS / 2, norm))

    def attacked(breaks):
        steps = itertools.count()

        def objective(images):
            # A gradient that is not finite is asked for once more.
            broken = torch.tensor([breaks and next(steps) in (1, 2), False])
            return torch.where(broken, torch.inf, 1.0) * linear(weight)(images)

        return pgd(x, objective, ball, rule=rule, keep_best=False)

    once, whole = attacked(True), attacked(False)
    assert once.isfinite().all() and torch.equal(once[1], whole[1])
    assert linear(weight)(once)[0] < linear(weight)(x)[0]


def test_pixels_whose_gradient_is_not_finite_leave_the_others_theirs(x, weight):
    # The slope of a root is not finite at 0.
    _, gradient = slope(lambda images: linear(weight)(images) + (images[:, :, 0, 0] * 0).sqrt().sum(1), x)
    expected = weight.clone()
    expected[:, :, 0, 0] = 0
    torch.testing.assert_close(gradient, expected)


def test_a_large_objective_in_half_precision_has_its_gradient(x):
    def objective(images):
        return (1e3 * images.half()).float().flatten(1).sum(1)

    _, gradient = slope(objective, x)
    torch.testing.assert_close(gradient, torch.full_like(x, 1e3))


def test_a_perceptual_budget_holds_in_float32_whatever_the_search_computes_in(x):
    features, far = RandomFeatures(), (x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    budget = 0.3 * feature_distance(features.columns(far), features.columns(x)).min().item()
    with torch.autocast("cpu", torch.bfloat16):
        found = within_budget(far, x, features, budget)
    assert torch.equal(found, within_budget(far, x, features, budget))


@pytest.mark.parametrize("sampled", [False, True])
def test_the_adaptive_attack_encodes_once_a_step_also_where_it_looks_at_the_variance(sampled, vae, x):
    counts = []
    for variance in (0.0, 1.0):
        passes = []
        hook = vae.model.encoder.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        adaptive(x, vae=vae, ball=Ball(EPS, 3, EPS), generators=generators(0, range(2)), variance=variance, sampled=sampled)
        hook.remove()
        counts.append(len(passes))
    # One more, of the clean images, before the first step.
    assert counts == [5, 6]


# --- the objectives against their papers


@pytest.fixture
def attacked(x) -> torch.Tensor:
    return (x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).sign()).clamp(0, 1)


def lpips_formula(features, y, x):
    """Zhang et al. 2018, eq. 1, with loops."""
    stages = zip(features.columns(y), features.columns(x), strict=True)
    return sum(((a - b) ** 2).sum(dim=1).mean(dim=(1, 2)) for a, b in stages)


OBJECTIVES = {
    "latent": lambda vae, x: (latent_objective(vae, vae.mean(x)), lambda a: -PUBLISHED["latent"](vae, x, a)),
    "photoguard, zero": lambda vae, x: (
        photoguard_encoder_objective(vae),
        lambda a: -PUBLISHED["photoguard-encoder"](vae, x, a),
    ),
    "photoguard, target": lambda vae, x: (
        photoguard_encoder_objective(vae, vae.mean(x.flip(0))),
        lambda a: ((vae.mean(a) - vae.mean(x.flip(0))) ** 2).sum((1, 2, 3)) ** 0.5,
    ),
    "reconstruction": lambda vae, x: (reconstruction_objective(vae, x), lambda a: -PUBLISHED["reconstruction"](vae, x, a)),
    "reconstruction, perceptual": lambda vae, x: (
        reconstruction_objective(vae, x, RandomFeatures(), 0.7),
        lambda a: -PUBLISHED["reconstruction"](vae, x, a) - 0.7 * lpips_formula(RandomFeatures(), vae.decode(vae.mean(a)), x),
    ),
}
every_objective = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES.keys())


@every_objective
def test_an_objective_is_its_published_formula(make, vae, x, attacked):
    objective, formula = make(vae, x)
    assert objective(attacked).shape == (2,)
    # The same sums in another order.
    torch.testing.assert_close(objective(attacked), formula(attacked), rtol=1e-5, atol=1e-7)


@every_objective
def test_the_gradient_of_an_objective_is_its_slope(make, vae, x, attacked):
    objective, _ = make(vae, x)
    attacked = 0.9 * attacked + 0.05  # room on both sides, as images are within [0,1]
    images = attacked.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(images).sum(), images)
    direction, h = steepest(gradient, "l2"), 0.01
    slope = (objective(attacked + h * direction) - objective(attacked - h * direction)) / (2 * h)
    # The error of central differences falls with h²: up to 5 % at h = 0.05, hence 0.2 % here. Rounding adds under 0.1 %.
    torch.testing.assert_close(slope, (gradient * direction).sum((1, 2, 3)), rtol=0.01, atol=1e-5)


def test_the_weight_of_the_perceptual_term_changes_the_gradient_linearly(vae, x, attacked):
    def gradient(weight: float):
        images = attacked.clone().requires_grad_()
        return torch.autograd.grad(reconstruction_objective(vae, x, RandomFeatures(), weight)(images).sum(), images)[0]

    plain, one, three = gradient(0.0), gradient(1.0), gradient(3.0)
    assert (one - plain).norm() > 0.1 * plain.norm()
    # Elements of about 1e-3 are sums of float32 terms of either sign, whose order depends on the number of threads.
    torch.testing.assert_close(three - plain, 3 * (one - plain), rtol=1e-3, atol=2e-6)


def test_columns_that_are_known_are_not_computed_again(vae, x, attacked):
    features = RandomFeatures()
    columns = features.columns(x)
    value = reconstruction_objective(vae, x, features, 0.7, columns)(attacked)
    assert features.seen == 2 * len(x)
    assert torch.equal(value, reconstruction_objective(vae, x, features, 0.7)(attacked))


POSTERIOR_OF_TWO = [(0.0, 0.0), (0.3, -2.0)]


@pytest.mark.parametrize(("mean", "log_variance"), POSTERIOR_OF_TWO)
@pytest.mark.parametrize(("variance", "sign"), [(1e-8, 1), (1.0, -1)])
def test_posterior_collapse_is_its_formula_on_numbers(mean, log_variance, variance, sign, vae, x, monkeypatch):
    numbers = torch.full((2, 4, 8, 8), mean), torch.full((2, 4, 8, 8), log_variance)
    monkeypatch.setattr(vae, "posterior", lambda images: numbers)
    expected = sign * 256 * 0.5 * (mean**2 + np.exp(log_variance) - variance * (log_variance + 1))
    # Sums of 256 numbers in float32.
    assert divergence_objective(vae, variance, sign)(x).tolist() == pytest.approx([expected] * 2, rel=1e-5)


def test_the_gradient_of_a_narrow_prior_fits_into_float16(vae, x):
    objective = divergence_objective(vae, 1e-8, 1)
    with torch.autocast("cpu", torch.float16):
        _, gradient = Loop().slope(objective, x)
    assert gradient.isfinite().all() and (gradient != 0).float().mean() > 0.9


def test_the_layers_of_an_encoder_are_named_and_chosen(vae, x, attacked):
    names = list(blocks_of(vae))
    assert names == ["conv_in", "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block", "conv_norm_out", "conv_out"]
    assert list(blocks_of(small_tiny()))[0] == "layers.0"
    parts = torch.stack([layers_objective(vae, x, [name])(attacked) for name in names])
    torch.testing.assert_close(parts.sum(0), layers_objective(vae, x)(attacked))
    assert not any(module._forward_hooks for module in vae.model.modules())
    with pytest.raises(InputError, match="no block 'nothing'; choose one of conv_in, down_blocks.0"):
        layers_objective(vae, x, ["nothing"])


def test_an_attack_on_several_vaes_minimises_the_sum(vae, x, attacked):
    twin = small_kl(channels=16)
    total = summed(lambda of: latent_objective(of, of.mean(x)), (vae, twin))(attacked)
    torch.testing.assert_close(total, -far(vae, x, attacked) - far(twin, x, attacked))


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.needs == "vae"])
def test_every_attack_on_a_vae_takes_a_second_one_and_gains_on_both(name, vae, x):
    torch.manual_seed(1)
    twin = small_kl()
    for weight in twin.model.encoder.parameters():
        weight.add_(0.3 * weight.std(unbiased=False) * torch.randn_like(weight))
    # No step: where the attack starts.
    start, both = (run(name, (vae, twin), x, steps=steps) for steps in (0, 10))

    def reached(a):
        return sum(PUBLISHED[name](of, x, a).mean() for of in (vae, twin))

    assert reached(both) > reached(start) and not torch.equal(both, run(name, vae, x, steps=10))


def test_the_worst_case_behind_a_view_is_worst_behind_it(vae, x, monkeypatch):
    # One candidate hurts in the left half, which the view takes away, the other a little in the right one.
    left, right = x.clone(), x.clone()
    left[..., :16], right[..., 16:] = 1 - left[..., :16], 0.7 * right[..., 16:]
    for part, made in (
        ("adaptive", left),
        ("reconstruction", right),
        ("latent", x),
        ("photoguard_encoder", x),
        ("mist_textural", x),
    ):
        monkeypatch.setattr(f"srlvae.attacks.papers.worst_case.{part}", lambda x, made=made, **options: made)

    def changed(images):
        return (images - x).square().mean((1, 2, 3))

    def view(images):
        return torch.cat([x[..., :16], images[..., 16:]], dim=-1)

    given = {"vae": vae, "ball": Ball(EPS, 1, EPS), "generators": generators(0, [0, 1]), "harm": changed}
    assert torch.equal(worst_case(x, **given), left)
    assert torch.equal(worst_case(x, **given, loop=Loop(view=view)), right)


def test_photoguard_comes_nearer_to_the_latent_of_its_target(vae, x):
    target = x.flip(0)
    adversarial = run("photoguard-encoder", vae, x, steps=8, target=target)
    distance = photoguard_encoder_objective(vae, vae.mean(target))
    assert (distance(adversarial) < distance(x)).all()


def test_photoguard_takes_one_target_for_all_images(vae, x):
    target = x[:1]
    assert torch.equal(
        run("photoguard-encoder", vae, x, target=target), run("photoguard-encoder", vae, x, target=target.expand_as(x))
    )


def test_photoguard_lets_its_step_fall_linearly_as_published(vae, x):
    assert all(preset.ball.falls for preset in ATTACKS["photoguard-encoder"].presets.values())
    falling, steady = Ball(EPS, 4, EPS / 2, falls=True), Ball(EPS, 4, EPS / 2)
    expected = pgd(x, photoguard_encoder_objective(vae), falling)
    assert torch.equal(photoguard_encoder(x, vae=vae, ball=falling), expected)
    assert not torch.equal(photoguard_encoder(x, vae=vae, ball=steady), expected)


def test_photoguard_starts_at_the_image_without_generators(vae, x):
    assert torch.equal(photoguard_encoder(x, vae=vae, ball=Ball(EPS, 0, EPS)), x)


def test_the_latent_attack_starts_where_its_gradient_is_not_zero(vae, x):
    objective = latent_objective(vae, vae.mean(x))
    at_rest, started = x.clone().requires_grad_(), run("latent", vae, x, steps=0).requires_grad_()
    # At δ = 0 the difference of the latents is exactly zero.
    assert torch.autograd.grad(objective(at_rest).sum(), at_rest)[0].abs().max() == 0
    assert torch.autograd.grad(objective(started).sum(), started)[0].abs().max() > 0


@pytest.mark.parametrize("quant", [True, False])
def test_attacks_run_on_autoencoders_of_any_latent_width(quant, x):
    vae = small_kl(channels=16, quant=quant)
    for name in PUBLISHED:
        assert run(name, vae, x, steps=1).shape == x.shape
