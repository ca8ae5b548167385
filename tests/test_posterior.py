"""The posterior's variance: the weights that make it, what it is on average, and that nothing moves it once it is held."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL

from conftest import small_kl, small_tiny
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.papers.pid import pid
from srlvae.errors import InputError
from srlvae.models.posterior import hold_variance, mean_log_variance, variance_head, variance_is_held
from srlvae.models.vae import VAE
from srlvae.rng import generators

LAYOUTS = {
    f"{channels} channels, {'with' if quant else 'without'} quant_conv": (channels, quant)
    for channels in (4, 16)
    for quant in (True, False)
}
every_layout = pytest.mark.parametrize(("channels", "quant"), LAYOUTS.values(), ids=LAYOUTS.keys())


def deviations(vae: VAE, x: torch.Tensor) -> torch.Tensor:
    return (vae.posterior(x)[1] / 2).exp()


@every_layout
def test_the_mean_log_variance_is_that_of_all_images_in_whatever_parts(channels, quant, x):
    vae = small_kl(channels, quant)
    four = torch.cat([x, 1 - x])
    expected = vae.posterior(four)[1].exp().mean((0, 2, 3)).log()
    for at_once in (1, 3, 4):
        # The same float32 sums in another order, of convolutions over other batch sizes.
        torch.testing.assert_close(mean_log_variance(vae, four, at_once), expected, rtol=1e-4, atol=1e-5)


@every_layout
def test_a_held_variance_is_the_same_on_every_image_and_the_mean_stays(channels, quant, x):
    vae = small_kl(channels, quant)
    means, value = vae.mean(x), mean_log_variance(vae, x)
    assert not variance_is_held(vae)
    hold_variance(vae, value)
    assert variance_is_held(vae)
    for images in (x, 1 - x, torch.zeros_like(x), torch.rand(x.shape, generator=torch.Generator().manual_seed(2))):
        _, log_variance = vae.posterior(images)
        # Products with zero, and sums of zeros: exact.
        assert torch.equal(log_variance, value[None, :, None, None].expand_as(log_variance))
    assert torch.equal(vae.mean(x), means)


def test_the_attack_that_opens_a_free_variance_finds_nothing_to_raise_in_a_held_one(x):
    vae = small_kl()
    head = variance_head(vae)
    # A random encoder hardly varies: let it answer to its input as a trained one does.
    head.weight[vae.channels :] *= 5
    settings = {"vae": vae, "ball": Ball(15 / 255, 20, 2 / 255), "variance_alone": True}
    attacked = pid(x, **settings, generators=generators(0, range(2)))
    assert deviations(vae, attacked).log().mean() > deviations(vae, x).log().mean() + 0.1
    hold_variance(vae, mean_log_variance(vae, x))
    attacked = pid(x, **settings, generators=generators(0, range(2)))
    assert torch.equal(deviations(vae, attacked), deviations(vae, x))


def test_a_model_without_posterior_has_nothing_to_hold():
    assert variance_head(small_tiny()) is None and variance_is_held(small_tiny())


def test_a_posterior_made_in_an_unknown_way_is_refused():
    vae = small_kl(quant=False)
    vae.model.encoder.conv_out = torch.nn.Sequential(vae.model.encoder.conv_out)
    with pytest.raises(InputError, match="AutoencoderKL makes its log-variance in a way that is not known"):
        variance_head(vae)


def test_what_is_held_stays_so_in_plain_diffusers(tmp_path, x):
    vae = small_kl()
    hold_variance(vae, mean_log_variance(vae, x))
    vae.save(tmp_path / "vae")
    loaded = AutoencoderKL.from_pretrained(tmp_path / "vae").encode(x * 2 - 1).latent_dist
    assert loaded.std.amax((0, 2, 3)).equal(loaded.std.amin((0, 2, 3)))


def test_a_posterior_with_something_added_is_refused_and_is_not_said_to_be_held():
    """As AutoencoderKLHunyuanImage's encoder adds to what its last convolution makes."""
    vae = small_kl(quant=False)
    vae.model.encoder.register_forward_hook(lambda module, inputs, y: y + inputs[0].mean())
    with pytest.raises(InputError, match="adds to its log-variance in an unknown way"):
        hold_variance(vae, torch.zeros(4))
    assert not variance_is_held(vae)


def test_the_variance_of_an_autoencoder_with_a_time_axis_is_held(x):
    from test_vae import small_wan

    vae = small_wan()
    mean = vae.mean(x)
    hold_variance(vae, torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    assert variance_is_held(vae) and torch.equal(vae.mean(x), mean)
    torch.testing.assert_close(vae.posterior(x)[1][0, :, 0, 0].exp(), torch.tensor([0.1, 0.2, 0.3, 0.4]))
