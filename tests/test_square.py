"""Square: queries alone, each image with squares of its own, and every pixel within reach."""

from __future__ import annotations

import pytest
import torch

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop
from srlvae.attacks.engine.square import side_of_square, square
from srlvae.attacks.engine.trace import Trace
from srlvae.errors import InputError
from srlvae.rng import generators

EPS = 8 / 255


def linear(weight):
    return lambda x: (weight * x).flatten(1).sum(1)


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.full((2, 3, 16, 16), 0.5)


def test_squares_shrink_by_the_published_schedule_at_any_number_of_queries():
    # p_selection of the authors' code: .8 halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000 of 10,000.
    published = {0: 0.8, 10: 0.8, 11: 0.4, 51: 0.2, 201: 0.1, 501: 0.05, 1001: 0.025, 2001: 0.0125, 4001: 0.00625}
    for query, share in published.items():
        assert side_of_square(query, 10_000, 512, 512) == round((share * 512**2) ** 0.5)
    assert side_of_square(9999, 10_000, 512, 512) == round((0.8 / 512 * 512**2) ** 0.5)
    assert side_of_square(60, 1000, 512, 512) == side_of_square(600, 10_000, 512, 512)
    assert side_of_square(999, 1000, 8, 8) == 1 and side_of_square(0, 1000, 4, 64) == 4


def test_the_corner_of_a_linear_objective_is_neared_and_never_left(x, weight):
    best = square(x, linear(weight), Ball(EPS, 1500, EPS), generators=generators(0, [0, 1]))
    reached, possible = linear(weight)(best) - linear(weight)(x), -EPS * weight.abs().sum((1, 2, 3))
    assert (reached < 0.7 * possible).all()
    # x + δ is rounded in float32.
    assert (best - x).abs().max() <= EPS + 1e-6
    # The last row and column are reached as well.
    start = square(x, linear(weight), Ball(EPS, 0, EPS), generators=generators(0, [0, 1]))
    assert (best != start)[..., -1, :].any() and (best != start)[..., -1].any()


def test_it_asks_for_values_alone_and_for_as_many_as_there_are_steps(x, weight):
    asked = []

    def counted(images):
        assert not torch.is_grad_enabled() and 0 <= images.min() and images.max() <= 1
        asked.append(len(images))
        return linear(weight)(images)

    trace = Trace()
    square(x, counted, Ball(EPS, 7, EPS), generators=generators(0, [0, 1]), loop=Loop(watch=trace))
    assert asked == [2] * 7 and len(trace.values) == 7
    assert all((later <= earlier).all() for earlier, later in zip(trace.values, trace.values[1:], strict=False))
    assert not any("gradient" in reason for reasons in trace.doubts(2) for reason in reasons)


def test_an_image_has_its_own_squares(x, weight):
    both = square(x, linear(weight), Ball(EPS, 40, EPS), generators=generators(0, [0, 1]))
    alone = square(x[1:], linear(weight[1:]), Ball(EPS, 40, EPS), generators=generators(0, [1]))
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0] - x[0], both[1] - x[1])


def test_behind_a_view_the_best_so_far_is_valued_anew(x, weight):
    draws = torch.Generator().manual_seed(0)

    def view(images):
        return images + 0.2 * torch.randn((), generator=draws)

    asked = []

    def noted(images):
        asked.append(images)
        return linear(weight)(images)

    square(x, noted, Ball(EPS, 5, EPS), generators=generators(0, [0, 1]), loop=Loop(view=view))
    # The start, and then two a query.
    assert len(asked) == 1 + 2 * 4


def test_other_balls_are_refused_and_no_budget_ends(x, weight):
    with pytest.raises(InputError, match="Square needs"):
        square(x, linear(weight), Ball(2.0, 3, 1.0, "l2"), generators=generators(0, [0, 1]))
    assert torch.equal(square(x, linear(weight), Ball(0.0, 3, 0.0), generators=generators(0, [0, 1])), x)
