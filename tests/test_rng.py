"""One generator an image: the same draw in any batch, and the global generator left alone."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest
import torch

from srlvae.rng import generator, generators, named_generator, normal_like, uniform_like


@pytest.mark.parametrize("draw", [uniform_like, normal_like])
def test_an_image_draws_the_same_in_any_batch(draw):
    together = draw(torch.empty(4, 3, 5, 5), generators(7, [0, 1, 2, 3]))
    alone = draw(torch.empty(1, 3, 5, 5), generators(7, [2]))
    assert torch.equal(together[2], alone[0])


@pytest.mark.parametrize("other", [(8, 0), (7, 1), (0, 7)])
def test_other_seeds_and_indices_draw_differently(other):
    x = torch.empty(1, 3, 5, 5)
    assert not torch.equal(uniform_like(x, [generator(7, 0)]), uniform_like(x, [generator(*other)]))


def test_neighbouring_pairs_have_states_of_their_own():
    states = {generator(seed, index).initial_seed() for seed in range(30) for index in range(30)}
    assert len(states) == 900


@pytest.mark.parametrize("draw", [uniform_like, normal_like])
def test_noise_is_drawn_on_the_cpu_whatever_the_device_is(draw):
    here, there = generator(7, 0), generator(7, 0)
    draw(torch.empty(1, 3, 5, 5), [here])
    assert draw(torch.empty(1, 3, 5, 5, device="meta"), [there]).device.type == "meta"
    assert torch.equal(here.get_state(), there.get_state()) and here.device.type == "cpu"


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        generator(-1, 0)


def test_the_global_generators_are_untouched():
    # Not Python's own: the run-time checks of `Generators` pick their samples by it.
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    normal_like(torch.empty(2, 3), generators(0, [0, 1]))
    uniform_like(torch.empty(2, 3), generators(0, [0, 1]))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state[2] == np.random.get_state()[2] and (numpy_state[1] == np.random.get_state()[1]).all()


def test_uniform_draws_fill_the_range_evenly():
    draws = uniform_like(torch.empty(1, 100_000), [generator(0, 0)])
    assert draws.min() >= -1 and draws.max() <= 1
    # Mean and variance of 100,000 draws: standard errors are 0.002 and 0.001, five of them.
    assert draws.mean().item() == pytest.approx(0, abs=0.01)
    assert draws.var().item() == pytest.approx(1 / 3, abs=0.005)


def test_draws_take_the_type_of_the_images():
    assert normal_like(torch.empty(1, 2, dtype=torch.float64), [generator(0, 0)]).dtype == torch.float64


def test_one_generator_an_image_is_required():
    with pytest.raises(ValueError):
        uniform_like(torch.empty(2, 3), generators(0, [0]))


def test_a_name_that_is_no_text_has_a_generator_and_those_of_texts_are_as_they_were():
    def draw(g: torch.Generator) -> float:
        return torch.rand((), generator=g).item()

    strange, twin = (os.fsdecode(name) for name in (b"caf\xe9", b"caf\xe8"))
    assert draw(named_generator(0, strange)) != draw(named_generator(0, twin))
    for seed in (0, 1):
        assert draw(named_generator(seed, "café")) == draw(generator(seed, zlib.crc32("café".encode())))
