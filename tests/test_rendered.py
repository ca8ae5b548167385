"""Attacks that move other numbers than pixels: the coefficients of a JPEG, and perturbations behind blurs."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.jpeg import rms_of_a_step, to_coefficients, to_images
from srlvae.attacks.engine.pgd import Loop
from srlvae.attacks.engine.rendered import search_rendered
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.on_vaes import DCT_STEP, LUMA_STEP
from srlvae.attacks.papers.blurguard import (
    blur,
    blurguard_objective,
    find_regions,
    fit_widths,
    radial_power,
    spectral_change,
)
from srlvae.attacks.papers.dctshield import dct_shield
from srlvae.images import to_pil, to_tensor
from srlvae.rng import generators, normal_like

EPS = 8 / 255


# --- the search


def test_a_search_over_parameters_ends_where_the_objective_is_least_and_keeps_the_best(x):
    goal = torch.full((2, 5), 0.3)

    def render(numbers):
        return x + EPS * numbers.mean(1)[:, None, None, None]

    def objective(images):
        return ((images - x).mean((1, 2, 3)) / EPS - 0.3).square()

    settings = {"render": render, "ball": Ball(EPS, 30, 0.1), "loop": Loop()}
    found = search_rendered(x * 0.8 + 0.1, objective, torch.zeros(2, 5), move=lambda p, g, n: p - 0.1 * g.sign(), **settings)
    assert found.min() >= 0 and found.max() <= 1 and goal.shape == (2, 5)
    best = search_rendered(x, objective, torch.full((2, 5), 0.3), move=lambda p, g, n: p + 1.0, **settings)
    # The start was the best: x + δ is rounded in float32, and clamped to the box.
    torch.testing.assert_close(best, (x + 0.3 * EPS).clamp(0, 1), rtol=0, atol=1e-6)


def test_parameters_that_a_mask_hides_are_no_doubt(x):
    trace, mask = Trace(), torch.zeros(2, 1, 32, 32)
    mask[..., :8] = 1
    settings = {"move": lambda p, g, n: p - 0.01 * g.sign(), "ball": Ball(EPS, 4, EPS), "loop": Loop(mask=mask, watch=trace)}
    search_rendered(0.5 * x + 0.25, lambda a: a.sum((1, 2, 3)), torch.zeros_like(x), render=lambda p: x + p, **settings)
    assert trace.doubts(2) == [[], []]


def test_what_is_rendered_is_put_into_ball_box_and_mask(x):
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    settings = {"move": lambda p, g, n: p, "ball": Ball(EPS, 1, EPS), "loop": Loop(mask=mask)}
    found = search_rendered(
        x, lambda a: a.sum((1, 2, 3)), torch.ones(2, 1), render=lambda p: x + p.view(-1, 1, 1, 1), **settings
    )
    torch.testing.assert_close(found, x + mask * ((x + EPS).clamp(0, 1) - x), rtol=0, atol=1e-6)


# --- JPEG's coefficients


def test_coefficients_and_back_are_the_identity_but_for_the_chroma(x):
    grey = x.mean(1, keepdim=True).expand_as(x).contiguous()
    # YCbCr there and back in float32, of levels up to 255.
    torch.testing.assert_close(to_images(*to_coefficients(grey, 95), 95, 32, 32), grey, rtol=0, atol=1e-4)
    odd = grey[..., :21, :30]
    torch.testing.assert_close(to_images(*to_coefficients(odd, 95), 95, 21, 30), odd, rtol=0, atol=1e-4)


def test_rounded_coefficients_are_those_of_a_jpeg_file(x):
    file = io.BytesIO()
    to_pil(x[0]).save(file, "JPEG", quality=95, subsampling="4:2:0")
    luma, chroma = (plane.round() for plane in to_coefficients(to_tensor(to_pil(x[0]))[None], 95))
    mine, theirs = to_images(luma, chroma, 95, 32, 32)[0].clamp(0, 1), to_tensor(Image.open(file))
    # libjpeg computes in integers, and smooths the chroma it has halved in its own way: a grey level or two.
    assert (mine - theirs).abs().mean() < 2 / 255


@pytest.mark.parametrize(("luma_alone", "said"), [(False, DCT_STEP), (True, LUMA_STEP)])
def test_a_step_of_all_coefficients_has_the_distortion_that_is_said(luma_alone, said):
    draws = torch.Generator().manual_seed(0)

    def signs(*shape):
        return torch.randint(2, shape, generator=draws) * 2.0 - 1

    luma, chroma = signs(4, 1, 32, 32, 8, 8), signs(4, 2, 16, 16, 8, 8) * (not luma_alone)
    flat = to_images(0 * luma, 0 * chroma, 95, 256, 256)
    found = (to_images(luma, chroma, 95, 256, 256) - flat).square().mean().sqrt().item()
    # 400,000 random signs; the table says three figures.
    assert rms_of_a_step(95, luma_alone) == pytest.approx(found, rel=0.01)
    assert said == pytest.approx(rms_of_a_step(95, luma_alone), rel=1e-3)


@pytest.mark.parametrize("luma_alone", [False, True])
def test_dct_shield_keeps_to_a_quantisation_step_of_each_coefficient(luma_alone, vae):
    x = 0.3 + 0.4 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    ball = ATTACKS["dct-shield"].presets["luma" if luma_alone else "paper"].ball.resized(steps=12)
    found = dct_shield(x, vae=vae, ball=ball, generators=generators(0, [0, 1]), luma_alone=luma_alone)
    assert (found - x).square().mean((1, 2, 3)).sqrt().max() <= ball.eps * (1 + 1e-5)
    luma, chroma = (plane.round() for plane in to_coefficients(x, 95))
    start = to_images(luma, chroma, 95, 32, 32)
    moved, still = (to_coefficients(images, 95) for images in (found, start))
    # The luma is not mixed with what halves the chroma. Nothing is clamped on these pictures, and ε is said to three figures.
    assert (moved[0] - still[0]).abs().max() <= 1.005
    assert (moved[0] - still[0]).abs().max() > 0.9
    # Adding up a chroma plane of half the sides changes it.
    assert ((moved[1] - still[1]).abs().max() < 1e-3) == luma_alone


def test_a_budget_in_pixels_is_kept_too(vae, x):
    found = dct_shield(x, vae=vae, ball=Ball(EPS, 3, EPS), generators=generators(0, [0, 1]))
    # x + δ is rounded in float32.
    assert 0 < (found - x).abs().max() <= EPS + 1e-6


# --- BlurGuard


def test_a_blur_is_a_gaussian_in_each_region():
    impulse = torch.zeros(3, 33, 33)
    impulse[:, 16, 16] = 1
    distance = torch.arange(-16.0, 17) ** 2
    kernel = (-distance / (2 * 2.0**2)).exp() / (-distance / (2 * 2.0**2)).exp().sum()
    left = torch.zeros(1, 1, 33, 33)
    left[..., :17] = 1
    found = blur(impulse, torch.tensor([2.0, 1e-3]), torch.cat([left, 1 - left]))
    expected = kernel[:, None] * kernel * left[0, 0]
    torch.testing.assert_close(found, expected.expand(3, -1, -1), rtol=1e-5, atol=1e-8)


def test_radial_power_is_that_of_a_wave_at_its_radius():
    wave = torch.cos(2 * np.pi * 5 * torch.arange(32) / 32).expand(3, 32, 32)
    power = radial_power(wave)
    assert power.argmax() == 5 and power.shape == (24,)
    # Parseval: the sum of all powers is n times that of the squares.
    assert power.sum().item() == pytest.approx(32 * 32 * wave.square().sum().item(), rel=1e-5)


def test_the_fitted_widths_leave_the_spectrum_nearer_to_the_pictures():
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(coarse, 64, mode="bicubic").clamp(0.1, 0.9)[0]
    regions = find_regions(image, 16)
    assert torch.equal(regions.sum(0), torch.ones(1, 64, 64)) and len(regions) > 1

    def change(widths):
        noise = (normal_like(image[None], generators(9, [0]))[0] / 2).clamp(-EPS, EPS)
        return spectral_change(image, (image + blur(noise, widths, regions)).clamp(0, 1))

    steps = []
    (fitted,) = fit_widths(image[None], [regions], EPS, 50, generators(0, [0]), lambda: steps.append(1))
    assert len(steps) == 50
    assert change(fitted) < 0.8 * change(torch.ones(len(regions))) and (fitted > 1).all()


def test_blurguard_is_the_mean_square_of_the_scaled_sampled_latent(vae, x):
    output = vae.model.encode(x * 2 - 1).latent_dist
    z = (output.mean + output.std * normal_like(output.mean, generators(0, [0, 1]))) * 0.3
    torch.testing.assert_close(blurguard_objective(vae, generators(0, [0, 1]))(x), (z**2).mean((1, 2, 3)))
