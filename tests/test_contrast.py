"""What a perturbation is made of, and noise that it is compared with."""

from __future__ import annotations

import pytest
import torch

from srlvae.attacks.contrast import bands, split_contrast
from srlvae.attacks.engine.pgd import size_of
from srlvae.attacks.noise import noisy, signs_of_rms
from srlvae.images import to_levels
from srlvae.rng import generators


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


def test_bands_add_up_to_the_picture(picture):
    assert len(bands(picture)) == 5
    torch.testing.assert_close(torch.stack(bands(picture)).sum(0), picture)


def contrast_share(x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """The share of each perturbation's energy that its contrast part has."""
    contrast, _ = split_contrast(x, delta)
    return contrast.square().sum((1, 2, 3)) / delta.square().sum((1, 2, 3))


def test_less_contrast_is_contrast_alone_and_noise_is_not(picture):
    less = -0.1 * (picture - picture.mean((2, 3), keepdim=True))
    contrast, rest = split_contrast(picture, less)
    torch.testing.assert_close(contrast, less, rtol=0, atol=1e-6)
    assert rest.abs().max() < 1e-6
    darker = bands(picture)[1] * 0.2 - 0.05
    torch.testing.assert_close(contrast_share(picture, darker), torch.ones(2))
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    # Six numbers in each colour explain six of its 1920 pixels' energy on average.
    assert (contrast_share(picture, noise) < 0.02).all()


def test_the_parts_add_up_and_are_orthogonal_image_by_image(picture):
    delta = 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1)).sign() - 0.03 * picture
    contrast, rest = split_contrast(picture, delta)
    torch.testing.assert_close(contrast + rest, delta)
    energies = [part.square().sum((1, 2, 3)) for part in (contrast, rest, delta)]
    torch.testing.assert_close(energies[0] + energies[1], energies[2], rtol=1e-5, atol=0)
    torch.testing.assert_close(split_contrast(picture[1:], delta[1:])[0], contrast[1:])


def test_a_flat_picture_has_brightness_alone():
    flat, delta = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.1)
    torch.testing.assert_close(split_contrast(flat, delta)[0], delta)
    assert split_contrast(flat, torch.zeros_like(flat))[0].abs().max() == 0


@pytest.mark.parametrize(("name", "rms"), [("uniform-noise", 3**-0.5), ("random-signs", 1.0)])
def test_noise_has_its_size(name, rms):
    grey, draws = torch.full((2, 3, 64, 64), 0.5), generators(0, [0, 1])
    found = noisy(grey, name, 8 / 255, draws) - grey
    assert found.abs().max() <= 8 / 255 + 1e-6
    # 12,288 draws an image.
    assert size_of(found, "rms").tolist() == pytest.approx([8 / 255 * rms] * 2, rel=0.02)


def test_random_signs_have_the_size_of_an_attack_once_they_are_in_a_file():
    grey, wanted = torch.full((3, 3, 64, 64), 128 / 255), torch.tensor([0.4, 3.4, 12.0]) / 255
    found = signs_of_rms(grey, wanted, generators(0, [0, 1, 2]))
    levels = to_levels(found).float() / 255
    torch.testing.assert_close(levels, found)
    assert size_of(levels - grey, "rms").tolist() == pytest.approx(wanted.tolist(), rel=0.02)
    # As many up as down, and none but the two levels around it.
    assert (255 * (levels[1] - grey[1])).round().unique().tolist() == [-4, -3, 3, 4]
    assert abs((levels[2] > grey[2]).float().mean() - 0.5) < 0.02
    # On white those that lead out are cut off, which leaves half of the energy.
    white = torch.ones_like(grey)
    cut = size_of(signs_of_rms(white, wanted, generators(0, [0, 1, 2])) - white, "rms")
    assert cut.tolist() == pytest.approx((wanted / 2**0.5).tolist(), rel=0.03)
