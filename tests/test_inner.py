"""The inner step stays in its balls, deals out attacks by the images' numbers, and makes perturbations that get stronger."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from conftest import small_kl
from small import RandomFeatures
from srlvae.harden.inner import InnerAttack, choose_attacks, go_on, perturb, strengths, targets
from srlvae.harden.rotation import visits
from srlvae.harden.terms import CleanBatch, Term, outer_loss
from srlvae.models.vae import VAE
from srlvae.rng import generators

EPS = 8 / 255
KINDS = [
    InnerAttack(aim, on, eps=EPS, steps=3) for aim in ("away", "target", "reconstruction") for on in ("training", "original")
]
KINDS += [
    InnerAttack("noise", eps=EPS),
    InnerAttack("away", eps=EPS),
    InnerAttack("reconstruction", eps=EPS, steps=2, perceptual=0.1),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture
def four(x) -> torch.Tensor:
    """Four images, some of their pixels 0 or 1."""
    return ((torch.cat([x, x.flip(3)]) - 0.5) * 3 + 0.5).clamp(0, 1)


@pytest.fixture
def moved(vae) -> VAE:
    vae.model.encoder.conv_in.weight.mul_(1.1)
    return vae


def known(x: torch.Tensor) -> CleanBatch:
    return CleanBatch(x, small_kl(), RandomFeatures())


@every_kind
def test_attacked_images_are_images_within_the_ball(kind, moved, four):
    delta = perturb(moved, known(four), [kind], range(4), seed=0, radius=0.5)
    assert delta.shape == four.shape and not delta.requires_grad
    assert (four + delta).min() >= 0 and (four + delta).max() <= 1
    # x + δ is rounded to float32 once more than δ was.
    assert EPS / 4 < delta.abs().max() <= EPS / 2 + 1e-6
    assert all(p.grad is None for p in moved.model.parameters())


@every_kind
def test_an_image_has_the_attack_of_its_number_whatever_its_neighbours(kind, moved, four):
    attacks = [kind, InnerAttack("noise", eps=EPS / 2)]
    together = perturb(moved, known(four), attacks, range(4), seed=3)
    alone = torch.cat([perturb(moved, known(four[i : i + 1]), attacks, [i], seed=3) for i in range(4)])
    # A rounding of the gradient may flip the sign of a pixel that hardly matters.
    assert (together - alone).abs().gt(1e-6).float().mean() < 0.02


def test_attacks_get_their_shares_among_any_few_neighbours():
    attacks = [InnerAttack(share=2.0), InnerAttack("noise", share=1.0), InnerAttack("target", share=1.0)]
    for start in (0, 8, 1000):
        found = Counter(choose_attacks(attacks, range(start, start + 16)))
        assert all(abs(found[i] - 16 * share) <= 2 for i, share in enumerate((0.5, 0.25, 0.25)))
    found = Counter(choose_attacks(attacks, range(4000)))
    assert all(abs(found[i] / 4000 - share) < 0.01 for i, share in enumerate((0.5, 0.25, 0.25)))


def test_an_attack_without_a_share_is_given_to_nobody():
    assert set(choose_attacks([InnerAttack(share=0.0), InnerAttack("noise"), InnerAttack(share=0.0)], range(100))) == {1}


def test_attacks_on_the_original_see_it_alone(moved, four):
    for aim in ("away", "target"):
        for on, same in (("original", True), ("training", False)):
            made = [
                perturb(vae, known(four), [InnerAttack(aim, on, eps=EPS, steps=3)], range(4), 0) for vae in (moved, small_kl())
            ]
            assert torch.equal(*made) == same


def test_targets_are_zero_or_the_latents_of_the_image_upside_down(vae, four):
    x = four.repeat(3, 1, 1, 1)
    goals = targets(CleanBatch(x, vae, None), generators(0, range(12)))
    zero = goals.flatten(1).abs().amax(1) == 0
    assert 2 < zero.sum() < 10
    # A batch of another size: the same float32 sums in another order.
    torch.testing.assert_close(goals[~zero], vae.mean(x.flip(2))[~zero], rtol=1e-4, atol=1e-5)


def test_attacks_reach_what_they_aim_at(moved, four):
    clean = known(four)
    noise = four + perturb(moved, clean, [InnerAttack("noise", eps=EPS)], range(4), 0)

    def attacked(aim: str, on: str = "training") -> torch.Tensor:
        return four + perturb(moved, clean, [InnerAttack(aim, on, eps=EPS, steps=6)], range(4), 0)

    def far(images, vae=moved):
        return (vae.mean(images) - clean.latents).square().mean((1, 2, 3))

    def broken(images):
        return (moved.decode(moved.mean(images)) - four).square().mean((1, 2, 3))

    goals = targets(clean, generators(0, range(4)))

    def missed(images):
        return (moved.mean(images) - goals).square().mean((1, 2, 3))

    assert (far(attacked("away")) > far(noise)).all()
    assert (far(attacked("away", "original"), clean.original) > far(noise, clean.original)).all()
    assert (broken(attacked("reconstruction")) > broken(noise)).all()
    assert (missed(attacked("target")) < missed(noise)).all()


# --- perturbations that go on


def test_going_on_raises_the_loss_within_the_ball(moved, four):
    attacks, clean, terms = [InnerAttack(eps=EPS)], known(four), (Term("shift", "attacked", 1.0),)
    delta, losses = perturb(moved, clean, attacks, range(4), seed=0), []
    for _ in range(5):
        images = (four + delta).requires_grad_()
        loss, _ = outer_loss(moved.mean, moved, clean, images, terms)
        losses.append(loss.detach())
        delta = go_on(delta, torch.autograd.grad(loss.sum(), images)[0], clean, attacks, range(4), 1.0)
        assert delta.abs().max() <= EPS + 1e-6 and (four + delta).min() >= 0 and (four + delta).max() <= 1
    assert (losses[-1] > 1.2 * losses[0]).all()


def test_a_step_on_has_the_size_that_a_first_step_has_and_some_attacks_take_none(four):
    attacks = [InnerAttack(eps=EPS, step_size=0.25), InnerAttack("noise", eps=EPS), InnerAttack("away", "original", eps=EPS)]
    numbers = list(range(4))
    kinds = torch.tensor(choose_attacks(attacks, numbers))
    assert len(set(kinds.tolist())) == 3
    grey = torch.full_like(four, 0.5)
    gone = go_on(torch.zeros_like(four), torch.ones_like(four), known(grey), attacks, numbers, 0.5)
    expected = torch.where(kinds == 0, 0.25 * 0.5 * EPS, 0.0)
    # x + δ − x in float32.
    torch.testing.assert_close(gone.amax((1, 2, 3)), expected, rtol=1e-4, atol=1e-7)


def test_a_gradient_that_is_not_finite_leaves_the_perturbation_where_it_was(four):
    grey, gradient = torch.full_like(four, 0.5), torch.full_like(four, torch.nan)
    assert not go_on(torch.zeros_like(four), gradient, known(grey), [InnerAttack(eps=EPS)], range(4), 1.0).any()


def test_half_of_the_perturbations_are_weaker_by_all_shares_alike_whatever_their_attack():
    found = strengths(0.5, range(6000)).flatten()
    assert strengths(0.0, range(9)).eq(1).all() and ((found == 1).float().mean() - 0.5).abs() < 0.01
    kinds = torch.tensor(choose_attacks([InnerAttack(share=3.0), InnerAttack("target", steps=1)], range(6000)))
    for kind in (0, 1):
        weak = found[(found < 1) & (kinds == kind)]
        assert weak.sort().values.sub(torch.linspace(0, 1, len(weak))).abs().max() < 0.05


def test_weaker_perturbations_keep_to_their_part_of_the_ball(moved, four):
    attacks, numbers = [InnerAttack("away", eps=EPS, steps=2, step_size=1.0)], range(4, 8)
    grey = torch.full_like(four, 0.5)
    most = 0.5 * EPS * strengths(1.0, numbers)
    delta = perturb(moved, known(grey), attacks, numbers, 0, 0.5, 1.0)
    gone = go_on(delta, torch.ones_like(four), known(grey), attacks, numbers, 0.5, 1.0)
    for found in (delta, gone):
        assert (found.abs() <= most + 1e-6).all() and (found.abs().amax((1, 2, 3)) > 0.9 * most.flatten()).all()


# --- which batch a step trains on


@pytest.mark.parametrize(("places", "each"), [(1, 1), (1, 4), (4, 1), (8, 8), (3, 5)])
def test_batches_take_turns_and_each_is_visited_so_many_times(places, each):
    plan = visits(steps=10 * places * each, places=places, each=each)
    assert [visit.place for visit in plan] == [step % places for step in range(len(plan))]
    assert [visit.number for visit in plan if visit.new] == list(range(sum(visit.new for visit in plan)))
    seen = Counter(visit.number for visit in plan)
    last = {visit.number for visit in plan[-places:]}
    assert all(seen[n] == each for n in range(places, len(seen)) if n not in last)
    assert all(1 <= seen[n] <= each for n in seen)
    for place in range(places):
        own = [visit for visit in plan if visit.place == place]
        for one, other in itertools.pairwise(own):
            assert other.new == (other.number != one.number)


def test_new_batches_come_one_at_a_time():
    news = [step for step, visit in enumerate(visits(2000, 8, 8)) if visit.new and step >= 8]
    distances = [b - a for a, b in itertools.pairwise(news)]
    # Eight in 64 steps, never two close together, never a long time none.
    assert min(distances) >= 7 and max(distances) <= 16 and sum(distances[:8]) == 64


def test_a_longer_run_begins_as_a_shorter_one():
    assert visits(500, 8, 8)[:100] == visits(100, 8, 8)
