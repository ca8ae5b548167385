"""All purifiers through one table of postconditions, on small random networks; and what each must do."""

from __future__ import annotations

import dataclasses
import io

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, T5Config, T5EncoderModel

from conftest import small_kl
from pipelines import SIZE, frozen, pixel, sd15, text_config, tokenizer
from small import RandomFeatures
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import to_pil, to_tensor
from srlvae.metrics.pairwise import feature_distance, psnr
from srlvae.purify import PURIFIERS, autoencoder
from srlvae.purify.cost import counted_passes, measure_cost, peak_memory
from srlvae.purify.latent_diffusion import one_step, sdedit, tiled_sdedit
from srlvae.purify.load import identity, load_model
from srlvae.purify.pixel_diffusion import diffpure, noisy_upscaling, pdm_pure
from srlvae.purify.remover import KIND, Remover, load_remover, remove, save_remover
from srlvae.purify.remover_training import RemoverConfig, remover_loss, train_remover
from srlvae.purify.signal import adverse_cleaner, jpeg, noise, resize
from srlvae.rng import generators, normal_like

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


def small_remover() -> Remover:
    """A random remover that finds something."""
    torch.manual_seed(0)
    remover = Remover(width=8, depth=2)
    torch.nn.init.normal_(remover.leave.weight, std=0.05)
    return remover.eval().requires_grad_(False)


def model_for(needs: str):
    vae = small_kl()
    return {
        "nothing": lambda: None,
        "vae": lambda: vae,
        "pipeline": lambda: sd15(vae),
        "pixel": pixel,
        "upscaler": upscaler,
        "pixel-upscaler": pixel_upscaler,
        "remover": small_remover,
    }[needs]()


@pytest.fixture(autouse=True)
def features(monkeypatch):
    monkeypatch.setattr(autoencoder, "load_features", lambda name: RandomFeatures())


@pytest.fixture
def large() -> torch.Tensor:
    """Two smooth random images of the pipelines' size."""
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, SIZE, mode="bilinear").contiguous()


def resized(x: torch.Tensor, side: int) -> torch.Tensor:
    return nn.functional.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


@pytest.mark.parametrize("name", PURIFIERS)
def test_a_purifier_gives_images_and_keeps_them_apart(name, large):
    """Shape and range; the same again; an image alone as beside another; the model's weights and gradients as they were."""
    purifier = PURIFIERS[name]
    if name == "adverse-cleaner":
        pytest.importorskip("cv2", reason="needs the extra purify")
    model = model_for(purifier.needs)
    # A fifth of the steps of SDEdit.
    settings = {"steps": 20} if "strength" in purifier.settings else {}
    settings |= purifier.short_settings
    y = purifier(large, generators(0, [0, 1]), model, **settings)
    assert y.shape == large.shape and y.dtype == torch.float32 and not y.requires_grad
    assert 0 <= y.min() and y.max() <= 1 and y.isfinite().all()
    assert (y != large).any()
    torch.testing.assert_close(purifier(large, generators(0, [0, 1]), model, **settings), y, rtol=0, atol=0)
    alone = purifier(large[1:], generators(0, [1]), model, **settings)
    # Convolutions of one image and of two add in another order; IMPRESS's Adam divides by small numbers.
    torch.testing.assert_close(alone, y[1:], rtol=0, atol=2e-3 if name == "impress" else 1e-4)


def test_noisy_upscaling_is_the_pipelines_own_call_on_a_noised_picture(large):
    model, settings = upscaler(), {"sigma": 0.1, "level": 320, "steps": 2}
    published = PURIFIERS["noisy-upscaling"].settings
    assert (published["sigma"], published["level"]) == (0.1, 320)
    found = noisy_upscaling(large, generators=generators(0, [0, 1]), upscaler=model, **settings)
    draws = generators(0, [0, 1])
    noisy = (large + 0.1 * normal_like(large, draws)).clamp(0, 1)
    images = model([""] * 2, image=noisy, noise_level=320, num_inference_steps=2, generator=draws, output_type="pt").images
    assert images.shape[-1] == 4 * large.shape[-1]
    torch.testing.assert_close(found, resized(images, SIZE))


def test_pdm_pure_is_the_pipelines_own_call(large):
    model, small = pixel_upscaler(), {"image": resized(large, 8) * 2 - 1, "original_image": resized(large, 16) * 2 - 1}
    found = pdm_pure(large, generators=generators(0, [0, 1]), pixel_upscaler=model, strength=0.5, steps=4, guidance=7.0, low=8)
    settings = {"strength": 0.5, "num_inference_steps": 4, "guidance_scale": 7.0, "output_type": "pt"}
    images = model(prompt=["a picture"] * 2, generator=generators(0, [0, 1]), **small, **settings).images
    torch.testing.assert_close(found, resized((images.float() + 1) / 2, SIZE))


def test_diffpure_takes_the_steps_of_the_model_on_its_own_scale(large):
    model, draws = pixel(), generators(0, [0, 1])
    small = resized(large, 16)
    z = model.scheduler.add_noise(small * 2 - 1, normal_like(small, draws), torch.tensor([1, 1]))
    for step in (1, 0):
        z = model.scheduler.step(model.unet(z, step).sample, step, z, generator=draws).prev_sample
    found = diffpure(large, generators=generators(0, [0, 1]), pixel=model, t=2)
    torch.testing.assert_close(found, resized((z + 1) / 2, SIZE), rtol=0, atol=1e-4)


def test_sdedit_is_the_pipeline_s_edit_without_words_and_guidance(large):
    pipeline, settings = sd15(small_kl(), little=True), {"strength": 0.3, "steps": 10}
    found = sdedit(large, generators=generators(0, [0, 1]), pipeline=pipeline, **settings)
    assert torch.equal(found, pipeline.edit(large, ["", ""], generators(0, [0, 1]), guidance=1.0, **settings))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_one_step_is_the_step_of_diffusers_to_the_clean_latent(kind, large):
    pipeline = sd15(small_kl(), kind)
    found = one_step(large, generators=generators(0, [0, 1]), pipeline=pipeline, t=200)
    draws, vae = generators(0, [0, 1]), pipeline.vae
    z = vae.to_scaled(vae.sample(large, draws))
    scheduler = diffusers.DDIMScheduler.from_config(pipeline.pipe.scheduler.config, clip_sample=False, steps_offset=0)
    noisy = scheduler.add_noise(z, normal_like(z, draws), torch.tensor([200, 200]))
    scheduler.set_timesteps(1000)
    said = pipeline.predict(noisy, torch.tensor(200), pipeline.condition([""] * 2))
    expected = vae.decode(vae.from_scaled(scheduler.step(said, 200, noisy).pred_original_sample)).clamp(0, 1)
    # The same numbers by another formula in float32.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_step_refuses_times_that_leave_nothing_or_do_not_exist(large):
    pipeline = sd15(small_kl())
    for t in (1000, 5000):
        with pytest.raises(InputError, match="times 0 to 999"):
            one_step(large, generators=generators(0, [0, 1]), pipeline=pipeline, t=t)
    pipeline.pipe.scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=True)
    with pytest.raises(InputError, match="leaves nothing of the image"):
        one_step(large, generators=generators(0, [0, 1]), pipeline=pipeline, t=999)


def test_one_step_costs_one_pass_through_each_network(large):
    pipeline = sd15(small_kl())
    with counted_passes({"unet": pipeline.pipe.unet, "encoder": pipeline.pipe.vae.encoder}) as passes:
        one_step(large, generators=generators(0, [0, 1]), pipeline=pipeline, t=200)
    assert passes == {"unet": 2, "encoder": 2}


# --- the learned remover

SMALL = RemoverConfig(steps=60, batch_size=4, crop=16, learning_rate=3e-3, warmup=5, width=8, depth=2)


@pytest.fixture
def pairs(large) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Smooth pictures, and what two attacks made of them: a board and stripes of 8/255."""
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(SIZE // 2, SIZE // 2) * 8 / 255
    stripes = torch.tensor([[1.0, -1.0]]).repeat(SIZE, SIZE // 2) * 8 / 255
    clean = 0.1 + 0.8 * large
    return clean, [clean + board, clean + stripes]


def test_a_broken_remover_is_refused(tmp_path):
    save_remover(small_remover(), tmp_path / "whole")
    whole = load_file(tmp_path / "whole")
    nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in whole.items()}
    shape = '{"width": 8, "depth": 2}'
    for tensors, said, reason in (
        (whole, '{"width": 9, "depth": 2}', "do not have the shape"),
        (whole, '{"breadth": 8}', "do not have the shape"),
        (whole, "eight", "do not have the shape"),
        (whole, None, "do not have the shape"),
        ({}, shape, "do not have the shape"),
        (nan, shape, "not finite"),
    ):
        save_file(tensors, tmp_path / "broken", {"kind": KIND, **({} if said is None else {"shape": said})})
        with pytest.raises(InputError, match=reason):
            load_remover(tmp_path / "broken")


def test_a_models_identity_is_that_of_its_weights_and_schedule(tmp_path):
    one, other = small_remover(), small_remover()
    assert identity(one) == identity(other)
    with torch.no_grad():
        other.leave.weight[0, 0, 0, 0] += 1
    assert identity(one) != identity(other)
    pipeline = pixel()
    pipeline.save_pretrained(tmp_path / "model")
    before = identity(load_model("pixel", str(tmp_path / "model")))
    assert before == identity(pipeline)
    rescheduled = type(pipeline)(pipeline.unet, type(pipeline.scheduler).from_config(pipeline.scheduler.config, beta_end=0.03))
    rescheduled.save_pretrained(tmp_path / "model")
    assert identity(load_model("pixel", str(tmp_path / "model"))) != before
    with torch.no_grad():
        next(pipeline.unet.parameters()).view(-1)[0] += 1
    pipeline.save_pretrained(tmp_path / "model")
    assert identity(load_model("pixel", str(tmp_path / "model"))) != before


def test_the_loss_of_a_remover_is_its_formula(large):
    remover, delta = small_remover(), 0.1 * torch.ones_like(large)
    expected = ((remover(large + delta) - delta) ** 2).mean() + (remover(large) ** 2).mean()
    torch.testing.assert_close(remover_loss(remover, large, delta), expected)
    # One that finds nothing loses the perturbation's energy.
    assert remover_loss(Remover(), large, delta).item() == pytest.approx(0.01)


def test_a_remover_takes_away_what_it_was_trained_on_and_leaves_clean_pictures(pairs):
    clean, attacked = pairs
    remover = train_remover(clean, attacked, SMALL)
    for made in attacked:
        assert psnr(remove(made, generators=[], remover=remover), clean).min() > psnr(made, clean).max() + 3
    # A third of what the attacks did.
    assert psnr(remove(clean, generators=[], remover=remover), clean).min() > psnr(attacked[0], clean).max() + 9
    again = train_remover(clean, attacked, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(remover.parameters(), again.parameters(), strict=True))


def test_a_remover_comes_back_from_its_file_and_nothing_else_does(tmp_path, large):
    remover = small_remover()
    save_remover(remover, tmp_path / "remover.safetensors")
    back = load_model("remover", str(tmp_path / "remover.safetensors"))
    assert torch.equal(back(large), remover(large)) and not any(p.requires_grad for p in back.parameters())
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    for path, wrong in (("other.safetensors", "is not a remover"), ("missing.safetensors", "cannot read a remover")):
        with pytest.raises(InputError, match=wrong):
            load_remover(tmp_path / path)


def test_what_cannot_be_learnt_from_is_refused(pairs):
    clean, attacked = pairs
    for images, others, config, wrong in (
        (clean, [], SMALL, "at least one attack"),
        (clean, [attacked[0][:1]], SMALL, r"attacked images are \(1, 3, 64, 64\)"),
        (clean, attacked, dataclasses.replace(SMALL, crop=65), "crops of 65 pixels"),
        (clean, [clean], SMALL, "learnt nothing"),
        (clean, attacked, dataclasses.replace(SMALL, learning_rate=1e30), "loss is not a number at step"),
    ):
        with pytest.raises(InputError, match=wrong):
            train_remover(images, others, config)


def test_noise_has_its_deviation():
    grey = torch.full((1, 3, 64, 64), 0.5)
    assert noise(grey, generators=generators(0, [0]), sigma=0.05).std().item() == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize("quality", [10, 75, 95])
def test_jpeg_is_that_of_pillow_at_its_quality_with_halved_colour(quality, large):
    file = io.BytesIO()
    to_pil(large[0]).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    assert torch.equal(jpeg(large[:1], generators=[], quality=quality)[0], to_tensor(Image.open(file)))


@pytest.mark.parametrize("factor", [2, 4])
def test_resizing_takes_the_finest_pattern_away_by_its_factor_and_keeps_the_coarse(factor, large):
    small = nn.functional.interpolate(large, SIZE // factor, mode="bicubic", antialias=True)
    found = resize(large, generators=[], factor=float(factor))
    assert torch.equal(found, resized(small, SIZE)) and psnr(found, large).min() > 25
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(8, 8).expand(1, 3, 16, 16)
    assert resize(board, generators=[], factor=float(factor))[..., 4:-4, 4:-4].sub(0.5).abs().max() < 0.15


def test_adverse_cleaner_smooths_noise_and_keeps_an_edge():
    pytest.importorskip("cv2", reason="needs the extra purify")
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    rough = (edge * 0.6 + 0.2 + 0.02 * torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    y = adverse_cleaner(rough, generators=[], bilateral=64, guided=4)
    assert y[..., 2:14].std() < 0.3 * rough[..., 2:14].std()
    assert y[..., 18:].mean() - y[..., :14].mean() > 0.55


def test_the_guide_of_adverse_cleaner_is_the_attacked_image():
    cv2 = pytest.importorskip("cv2", reason="needs the extra purify")
    rough = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    levels = rough[0].permute(1, 2, 0).mul(255).numpy()
    y = cv2.ximgproc.guidedFilter(levels, cv2.bilateralFilter(levels, 5, 8, 8), 4, 16)
    found = adverse_cleaner(rough, generators=[], bilateral=1, guided=1)
    torch.testing.assert_close(found[0], torch.from_numpy(y).permute(2, 0, 1).div(255).clamp(0, 1))


def test_impress_keeps_to_its_budget_by_its_weight(vae, x):
    """At a weight of nought alone the search is free to leave the picture."""
    settings, columns, far = PURIFIERS["impress"].settings | {"steps": 15, "budget": 0.0}, RandomFeatures().columns, []
    for weight in (0.0, 100.0):
        y = autoencoder.impress(x, generators=generators(0, [0, 1]), vae=vae, **settings | {"weight": weight})
        far.append(feature_distance(columns(y), columns(x)).mean())
    assert far[1] < 0.5 * far[0]


def test_impress_makes_an_image_more_consistent_with_its_vae(vae, x):
    def inconsistent(y):
        return (vae.decode(vae.mean(y)) - y).square().mean().item()

    settings = {**PURIFIERS["impress"].settings, "steps": 30}
    y = autoencoder.impress(x, generators=generators(0, [0, 1]), vae=vae, **settings)
    start = autoencoder.impress(x, generators=generators(0, [0, 1]), vae=vae, **{**settings, "steps": 0})
    assert inconsistent(y) < inconsistent(start)


def test_a_wish_to_stop_is_heard_in_every_iteration_of_impress(vae, x):
    class Stopped(Listener):
        asked = 0

        def should_stop(self):
            self.asked += 1
            return self.asked == 3

    listener = Stopped()
    with pytest.raises(KeyboardInterrupt):
        PURIFIERS["impress"](x, generators(0, [0, 1]), vae, listener, steps=9)
    assert listener.asked == 3


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (72, 64)])
def test_tiles_cover_every_pixel(size, monkeypatch):
    """With an edit that adds a tenth, every pixel gains a tenth of what is not kept by γ."""
    pipeline = sd15(small_kl())
    monkeypatch.setattr(pipeline, "edit", lambda x, prompts, generators, **settings: x + 0.1)
    grey = torch.full((1, 3, *size), 0.5)
    y = tiled_sdedit(grey, generators=[], pipeline=pipeline, strength=0.1, steps=10, rounds=2, gamma=0.1)
    torch.testing.assert_close(y, grey + 2 * 0.9 * 0.1)


def test_a_round_of_tiles_keeps_gamma_of_the_picture(large, monkeypatch):
    monkeypatch.setattr("srlvae.purify.latent_diffusion.sdedit", lambda x, **_: torch.zeros_like(x))
    y = tiled_sdedit(large, generators=[], pipeline=sd15(small_kl(), little=True), strength=0.1, steps=10, rounds=2, gamma=0.1)
    torch.testing.assert_close(y, 0.1**2 * large)


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
