"""All purifiers through one table of postconditions, on small random networks; and what each must do."""

from __future__ import annotations

import diffusers
import pytest
import torch
from torch import nn
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from conftest import small_kl
from pipelines import SIZE, frozen, pixel, sd15, text_config, tokenizer
from small import RandomFeatures
from srlvae.metrics.pairwise import psnr
from srlvae.purify import PURIFIERS, autoencoder
from srlvae.purify.cost import counted_passes, measure_cost, peak_memory
from srlvae.purify.latent_diffusion import tiled_sdedit
from srlvae.purify.signal import adverse_cleaner, jpeg, noise, resize
from srlvae.rng import generators

SQUARED_COS = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}


def upscaler() -> diffusers.StableDiffusionUpscalePipeline:
    """A random x4 upscaler with the configuration of Stable Diffusion's, made narrow."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.08333,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=7,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 16),
        layers_per_block=1,
        attention_head_dim=8,
        cross_attention_dim=32,
        norm_num_groups=8,
        num_class_embeds=1000,
    )
    pipe = diffusers.StableDiffusionUpscalePipeline(
        vae=vae.eval().requires_grad_(False),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(),
        unet=unet,
        low_res_scheduler=diffusers.DDPMScheduler(**SQUARED_COS),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
    )
    return frozen(pipe)


def pixel_upscaler() -> diffusers.IFImg2ImgSuperResolutionPipeline:
    """A random second stage of DeepFloyd IF, made narrow."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=6,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 16),
        layers_per_block=1,
        attention_head_dim=8,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        class_embed_type="timestep",
        norm_num_groups=8,
    )
    words = tokenizer()
    t5 = T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    pipe = diffusers.IFImg2ImgSuperResolutionPipeline(
        tokenizer=words,
        text_encoder=T5EncoderModel(t5),
        unet=unet,
        scheduler=diffusers.DDPMScheduler(**SQUARED_COS, variance_type="learned_range"),
        image_noising_scheduler=diffusers.DDPMScheduler(**SQUARED_COS),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    return frozen(pipe)


def model_for(needs: str):
    vae = small_kl()
    return {
        "nothing": lambda: None,
        "vae": lambda: vae,
        "pipeline": lambda: sd15(vae),
        "pixel": pixel,
        "upscaler": upscaler,
        "pixel-upscaler": pixel_upscaler,
    }[needs]()


@pytest.fixture(autouse=True)
def features(monkeypatch):
    monkeypatch.setattr(autoencoder, "load_features", lambda name: RandomFeatures())


@pytest.fixture
def large() -> torch.Tensor:
    """Two smooth random images of the pipelines' size."""
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, SIZE, mode="bilinear").contiguous()


@pytest.mark.parametrize("name", PURIFIERS)
def test_a_purifier_gives_images_and_keeps_them_apart(name, large):
    """Shape and range; the same again; an image alone as beside another; the model's weights and gradients as they were."""
    purifier = PURIFIERS[name]
    if name == "adverse-cleaner":
        pytest.importorskip("cv2", reason="needs the extra purify")
    model = model_for(purifier.needs)
    y = purifier(large, generators(0, [0, 1]), model, **purifier.short_settings)
    assert y.shape == large.shape and y.dtype == torch.float32 and not y.requires_grad
    assert 0 <= y.min() and y.max() <= 1 and y.isfinite().all()
    assert (y != large).any()
    torch.testing.assert_close(purifier(large, generators(0, [0, 1]), model, **purifier.short_settings), y, rtol=0, atol=0)
    alone = purifier(large[1:], generators(0, [1]), model, **purifier.short_settings)
    # Convolutions of one image and of two add in another order; IMPRESS's Adam divides by small numbers.
    torch.testing.assert_close(alone, y[1:], rtol=0, atol=2e-3 if name == "impress" else 1e-4)


def test_noise_has_its_deviation():
    grey = torch.full((1, 3, 64, 64), 0.5)
    assert noise(grey, generators=generators(0, [0]), sigma=0.05).std().item() == pytest.approx(0.05, rel=0.03)


def test_jpeg_of_a_flat_grey_is_that_grey_and_of_noise_is_not():
    grey = torch.full((1, 3, 16, 16), 100 / 255)
    torch.testing.assert_close(jpeg(grey, generators=generators(0, [0]), quality=75), grey, rtol=0, atol=1.01 / 255)
    rough = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert psnr(jpeg(rough, generators=generators(0, [0]), quality=75), rough) < 25


def test_resizing_takes_the_finest_pattern_away_and_keeps_the_coarse(large):
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(8, 8).expand(1, 3, 16, 16)
    assert resize(board, generators=[], factor=2.0)[..., 4:-4, 4:-4].sub(0.5).abs().max() < 0.15
    assert psnr(resize(large, generators=[], factor=2.0), large).min() > 35


def test_adverse_cleaner_smooths_noise_and_keeps_an_edge():
    pytest.importorskip("cv2", reason="needs the extra purify")
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    rough = (edge * 0.6 + 0.2 + 0.02 * torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    y = adverse_cleaner(rough, generators=[], bilateral=64, guided=4)
    assert y[..., 2:14].std() < 0.3 * rough[..., 2:14].std()
    assert y[..., 18:].mean() - y[..., :14].mean() > 0.55


def test_impress_makes_an_image_more_consistent_with_its_vae(vae, x):
    def inconsistent(y):
        return (vae.decode(vae.mean(y)) - y).square().mean().item()

    settings = {**PURIFIERS["impress"].settings, "steps": 30}
    y = autoencoder.impress(x, generators=generators(0, [0, 1]), vae=vae, **settings)
    start = autoencoder.impress(x, generators=generators(0, [0, 1]), vae=vae, **{**settings, "steps": 0})
    assert inconsistent(y) < inconsistent(start)


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (72, 64)])
def test_tiles_cover_every_pixel(size, monkeypatch):
    """With an edit that adds a tenth, every pixel gains a tenth of what is not kept by γ."""
    pipeline = sd15(small_kl())
    monkeypatch.setattr(pipeline, "edit", lambda x, prompts, generators, **settings: x + 0.1)
    grey = torch.full((1, 3, *size), 0.5)
    y = tiled_sdedit(grey, generators=[], pipeline=pipeline, strength=0.1, steps=10, rounds=2, gamma=0.1)
    torch.testing.assert_close(y, grey + 2 * 0.9 * 0.1)


def test_passes_are_counted_by_image_and_the_hooks_go_again():
    network = nn.Linear(2, 2)
    with counted_passes({"linear": network}) as passes:
        network(torch.zeros(3, 2))
        network(input=torch.zeros(2, 2))
    network(torch.zeros(1, 2))
    assert passes == {"linear": 5}


def test_memory_is_that_of_the_tensors_held_together():
    def run():
        x = torch.zeros(1000, 250)
        return (x + 1).sum()

    assert peak_memory(run, torch.device("cpu")) == pytest.approx(2e6, rel=0.01)


def test_a_cost_is_of_an_image(large):
    vae = small_kl()
    purifier = PURIFIERS["vae-round-trip"]

    def run(x):
        return purifier(x, [], vae)

    y, cost = measure_cost(run, run, large, {"encoder": vae.model.encoder, "decoder": vae.model.decoder})
    assert y.shape == large.shape and cost.seconds > 0 and cost.memory > large[:1].nbytes
    assert cost.passes == {"encoder": 1, "decoder": 1}
