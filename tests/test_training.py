"""The learning rate's schedule and the average of the weights, against their formulas."""

from __future__ import annotations

import pytest
import torch

from srlvae.training.schedule import update_average, warm_cosine


def test_the_rate_warms_up_and_falls_to_nothing():
    rates = [warm_cosine(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) > 0.95 and 0 < rates[-1] < 0.001
    assert warm_cosine(50, 100, 0) == pytest.approx(0.5)
    assert rates[12:] == sorted(rates[12:], reverse=True)


def test_the_average_is_a_plain_mean_at_first_and_exponential_later():
    average, values = [torch.zeros(3)], [torch.full((3,), float(v)) for v in range(1, 6)]
    expected = 0.0
    for step, value in enumerate(values, 1):
        update_average(average, [value], step, decay=0.25)
        # The decay grows as 1/10, 2/11, 3/12 = 0.25 and stays there.
        share = min(0.25, step / (step + 9))
        expected = share * expected + (1 - share) * step
    torch.testing.assert_close(average[0], torch.full((3,), expected))


def test_the_average_takes_no_gradient_along():
    weight, average = torch.ones(2, requires_grad=True), [torch.zeros(2)]
    update_average(average, [weight], 1, 0.9)
    assert not average[0].requires_grad and weight.grad is None
