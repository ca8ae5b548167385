"""Pipelines: the same as diffusers', with gradients, and left as they were found. Random weights, real configurations."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler
from safetensors.torch import save_file
from torch import nn

from checkpoint import checkpoint
from conftest import SHARED, small_kl, small_tiny
from pipelines import SIZE, little, sd15, sdxl
from srlvae.edits import edit_files, generate_files
from srlvae.errors import InputError
from srlvae.models.denoising import image_to_image
from srlvae.models.edit_settings import EditSettings
from srlvae.models.inpainting import inpaint
from srlvae.models.load import load_pipeline
from srlvae.models.noise import denoising_loss
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import load_vae
from srlvae.rng import generators, normal_like

PROMPTS = ["a photo of a cat", "a zebra ☂ no caption spoke of"]
every_kind = pytest.mark.parametrize("kind", [sd15, sdxl])


@pytest.fixture
def photographs() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def noise_for(pipeline: Pipeline, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return normal_like(pipeline.vae.to_scaled(pipeline.vae.mean(x)), generators(seed, range(len(x))))


def state(pipe) -> dict:
    weights = {
        f"{part}.{name}": w.clone()
        for part in ("unet", "vae", "text_encoder")
        for name, w in getattr(pipe, part).state_dict().items()
    }
    return {
        "weights": weights,
        "scheduler": dict(vars(pipe.scheduler)),
        "networks": {k: id(v) for k, v in pipe.components.items()},
    }


@every_kind
def test_every_call_leaves_the_pipeline_as_it_was(kind, photographs):
    pipeline = kind(small_kl())
    before = state(pipeline.pipe)
    pipeline.generate(PROMPTS, generators(0, range(2)), steps=2)
    pipeline.edit(photographs, PROMPTS, generators(0, range(2)), steps=2)
    other = small_kl()
    pipeline.with_vae(other).edit(photographs, PROMPTS, generators(0, range(2)), steps=2)
    after = state(pipeline.pipe)
    assert before["networks"] == after["networks"]
    assert before["weights"].keys() == after["weights"].keys()
    assert all(torch.equal(before["weights"][name], after["weights"][name]) for name in before["weights"])
    for name, value in before["scheduler"].items():
        same = after["scheduler"][name]
        assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value is same or value == same, name


@every_kind
def test_pictures_keep_the_contract_and_follow_their_generator(kind, photographs):
    pipeline = kind(small_kl())
    both = pipeline.generate(PROMPTS, generators(0, range(2)), steps=2)
    assert both.shape == (2, 3, SIZE, SIZE) and both.dtype == torch.float32 and 0 <= both.min() and both.max() <= 1
    again = pipeline.generate(PROMPTS, generators(0, range(2)), steps=2)
    assert torch.equal(both, again)
    alone = pipeline.generate(PROMPTS[1:], generators(0, [1]), steps=2)
    # Convolutions may sum in another order for another batch size.
    torch.testing.assert_close(alone, both[1:], rtol=0, atol=1e-3)
    edited = pipeline.edit(photographs, PROMPTS, generators(0, range(2)), steps=4)
    torch.testing.assert_close(
        pipeline.edit(photographs[1:], PROMPTS[1:], generators(0, [1]), steps=4), edited[1:], rtol=0, atol=1e-3
    )


@every_kind
def test_text_to_image_does_not_see_the_encoder(kind):
    pipeline, hardened = kind(small_kl()), small_kl()
    with torch.no_grad():
        for weight in hardened.encoder_modules()["encoder"].parameters():
            weight += 0.1
    pictures = [p.generate(PROMPTS, generators(0, range(2)), steps=2) for p in (pipeline, pipeline.with_vae(hardened))]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_denoising_loss_is_that_of_training(kind, photographs):
    pipeline = sd15(small_kl(), kind)
    z, conditioning = pipeline.vae.to_scaled(pipeline.vae.mean(photographs)), pipeline.condition(PROMPTS)
    noise, t = noise_for(pipeline, photographs), torch.tensor([40, 800])
    alphas = DDPMScheduler.from_config(pipeline.pipe.scheduler.config).alphas_cumprod[t].view(2, 1, 1, 1)
    noisy = alphas.sqrt() * z + (1 - alphas).sqrt() * noise
    target = noise if kind == "epsilon" else alphas.sqrt() * noise - (1 - alphas).sqrt() * z
    output = pipeline.pipe.unet(noisy, t, conditioning.embeds).sample
    expected = torch.stack([((o - g) ** 2).mean() for o, g in zip(output, target, strict=True)])
    torch.testing.assert_close(denoising_loss(pipeline, z, conditioning, t, noise), expected)


@every_kind
def test_the_denoising_loss_has_a_gradient_to_the_image(kind, photographs):
    pipeline, x = kind(small_kl()), photographs.requires_grad_()
    z = pipeline.vae.to_scaled(pipeline.vae.mean(x))
    loss = denoising_loss(pipeline, z, pipeline.condition(PROMPTS), torch.tensor([40, 800]), noise_for(pipeline, x))
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()


def test_another_prediction_type_is_refused(photographs):
    pipeline = sd15(small_kl(), "sample")
    z = pipeline.vae.to_scaled(pipeline.vae.mean(photographs))
    with pytest.raises(InputError, match="'sample'"):
        denoising_loss(pipeline, z, pipeline.condition(PROMPTS), torch.tensor([1, 2]), noise_for(pipeline, photographs))


@every_kind
def test_the_differentiable_edit_is_the_edit_of_diffusers(kind, photographs):
    # No posterior, so that both encode to the same latent, and the scheduler that the differentiable path takes.
    pipeline = kind(small_tiny())
    pipeline.pipe.scheduler = DDIMScheduler.from_config(pipeline.pipe.scheduler.config, clip_sample=False)
    settings = EditSettings(strength=0.7, steps=6, guidance=4.0)
    theirs = pipeline.edit(photographs, PROMPTS, generators(3, range(2)), **asdict(settings))
    x = photographs.requires_grad_()
    ours = image_to_image(pipeline, x, pipeline.condition(PROMPTS), noise_for(pipeline, x, seed=3), settings)
    torch.testing.assert_close(ours.clamp(0, 1), theirs, rtol=0, atol=1e-4)
    (gradient,) = torch.autograd.grad(ours.square().sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"), [({"strength": 0.0}, "above 0"), ({"strength": 1.5}, "at most 1"), ({"steps": 1}, "less than one")]
)
def test_an_edit_that_runs_no_step_is_refused(options, message, photographs):
    with pytest.raises(InputError, match=message):
        sd15(small_kl()).edit(photographs, PROMPTS, generators(0, range(2)), **options)


def test_a_vae_of_another_latent_space_is_refused():
    with pytest.raises(InputError, match="takes 4 channels and the VAE gives 16"):
        sd15(small_kl()).with_vae(small_kl(16))


def test_measurements_are_made_without_a_safety_checker():
    plain = sd15(small_kl())
    checked = plain.with_vae(plain.vae)
    checked.pipe.safety_checker = nn.Identity()
    unchecked = checked.without_safety_checker()
    assert unchecked.pipe.safety_checker is None and checked.pipe.safety_checker is not None
    assert unchecked.pipe.unet is checked.pipe.unet and plain.without_safety_checker() is plain


def test_a_saved_pipeline_loads_with_its_own_and_with_another_vae(tmp_path, photographs):
    pipeline = sd15(small_kl())
    pipeline.pipe.save_pretrained(tmp_path / "pipeline")
    small_tiny().save(tmp_path / "vae")
    loaded = load_pipeline(tmp_path / "pipeline")
    draws = {"steps": 2}
    expected = pipeline.generate(PROMPTS, generators(0, range(2)), **draws)
    assert torch.equal(loaded.generate(PROMPTS, generators(0, range(2)), **draws), expected)
    assert not any(p.requires_grad for p in loaded.pipe.unet.parameters())
    with pytest.warns(UserWarning, match="latents of different kinds .*: the pipeline does not understand"):
        swapped = load_pipeline(tmp_path / "pipeline", vae=tmp_path / "vae")
    assert swapped.vae.fingerprint() == small_tiny().fingerprint() != loaded.vae.fingerprint()


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "not a folder, hub id, bundled"), (".", "no model_index.json"), ("tiny", "single model.*--vae")],
)
def test_what_is_no_pipeline_is_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_pipeline(source if source != "." else tmp_path)


def test_a_broken_pipeline_is_refused_by_name(tmp_path):
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    with pytest.raises(InputError, match="cannot load a pipeline from"):
        load_pipeline(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models")
def test_taesd_takes_the_place_of_a_vae_of_its_latent_shape(photographs):
    pipeline = sd15(small_kl())
    swapped = pipeline.with_vae(load_vae(SHARED / "models" / "taesd"))
    edited = swapped.edit(photographs, PROMPTS, generators(0, range(2)), steps=4)
    assert edited.shape == photographs.shape and edited.std() > 0


# --- what else is loaded, and refused


def test_a_checkpoint_in_one_file_loads_in_the_folder_of_its_kind(tmp_path):
    pipeline = sd15(small_kl())
    pipeline.pipe.save_pretrained(tmp_path / "folder")
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    save_file(checkpoint(pipeline), tmp_path / "folder" / "model.safetensors")
    loaded = load_pipeline(tmp_path / "folder" / "model.safetensors")
    assert loaded.fingerprint() == pipeline.fingerprint() and loaded.vae.fingerprint() == pipeline.vae.fingerprint()
    assert loaded.settings() == pipeline.settings()


def test_a_checkpoint_in_one_file_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("srlvae.models.load.online", lambda: False)
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="neither tokenizer nor configuration.*no network.*beside model_index.json"):
        load_pipeline(tmp_path / "model.safetensors")


def test_a_pipeline_of_one_variant_alone_loads(tmp_path):
    pipeline = sd15(small_kl())
    pipeline.pipe.save_pretrained(tmp_path, variant="fp16")
    loaded = load_pipeline(tmp_path)
    assert loaded.fingerprint() == pipeline.fingerprint() and loaded.vae.fingerprint() == pipeline.vae.fingerprint()
    assert load_pipeline(f"{tmp_path}:fp16").fingerprint() == pipeline.fingerprint()
    with pytest.raises(InputError, match="no weights of the variant bf16.*there are: fp16"):
        load_pipeline(f"{tmp_path}:bf16")
    small_kl().save(tmp_path / "vae")
    with pytest.warns(UserWarning, match="with and without the variant fp16.*--variant fp16"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("hf://someone/nothing", "no network, and not in the cache"), ("hf://someone/nothing/unet", "not a folder in it")],
)
def test_a_pipeline_that_is_not_cached_is_said_so_without_a_network(name, message, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("srlvae.models.load.online", lambda: False)
    with pytest.raises(InputError, match=message):
        load_pipeline(name)


def test_a_cached_pipeline_loads_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("srlvae.models.load.online", lambda: False)
    pipeline, folder = sd15(small_kl()), tmp_path / "models--someone--small"
    pipeline.pipe.save_pretrained(folder / "snapshots" / ("a" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    loaded = load_pipeline("hf://someone/small")
    assert loaded.fingerprint() == pipeline.fingerprint() and loaded.pipe.config._name_or_path == "someone/small"


def test_noise_of_another_kind_is_refused_where_a_formula_needs_betas(photographs):
    pipeline = sd15(small_kl())
    pipeline.pipe.scheduler = EDMEulerScheduler()
    z = pipeline.vae.to_scaled(pipeline.vae.mean(photographs))
    condition, t = pipeline.condition(PROMPTS), torch.tensor([1, 2])
    with pytest.raises(InputError, match="EDMEulerScheduler has no betas"):
        denoising_loss(pipeline, z, condition, t, z)
    with pytest.raises(InputError, match="EDMEulerScheduler has no betas"):
        image_to_image(pipeline, photographs, condition, z, EditSettings(strength=0.5, steps=4))


def test_a_unet_for_inpainting_neither_generates_nor_edits(photographs, tmp_path):
    pipeline = sd15(small_kl(), inpainting=True)
    with pytest.raises(InputError, match="made for inpainting: it takes 9 channels"):
        pipeline.generate(PROMPTS, generators(0, range(2)), steps=2)
    with pytest.raises(InputError, match="made for inpainting: it takes 9 channels"):
        pipeline.edit(photographs, PROMPTS, generators(0, range(2)), steps=4)
    with pytest.raises(InputError, match="made for inpainting"):
        generate_files(pipeline, PROMPTS, tmp_path / "out", count=1)
    with pytest.raises(InputError, match="made for inpainting"):
        edit_files(pipeline, [tmp_path], "a cat", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inpainting_ends_with_the_latents_of_what_is_kept(x):
    pipeline, mask = little(small_kl()), torch.zeros(2, 1, 32, 32)
    settings, noise = EditSettings(strength=1.0, steps=2, guidance=1.0), torch.randn(2, 4, 8, 8)
    conditioning, vae = pipeline.condition(PROMPTS), pipeline.vae
    kept, repainted = (inpaint(pipeline, x, m, conditioning, noise, settings) for m in (mask, mask + 1))
    torch.testing.assert_close(kept, vae.decode(vae.mean(x)), rtol=1e-4, atol=1e-5)
    assert (repainted - kept).abs().mean() > 0.01


def test_a_value_that_rounding_left_below_zero_changes_no_edit(photographs):
    x = photographs.clone()
    x[0, 0, 0, 0] = 0
    below = x.clone()
    below[0, 0, 0, 0] = -5e-7
    pipeline = sd15(small_kl())
    edits = [pipeline.edit(image, PROMPTS, generators(0, range(2)), steps=4) for image in (x, below)]
    assert torch.equal(*edits)
