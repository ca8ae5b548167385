"""One door for every image autoencoder: what comes out, what is trained, what is loaded and what is refused."""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import built_once, small_kl, small_tiny
from srlvae.errors import InputError
from srlvae.models.vae import VAE, load_vae
from srlvae.rng import generator, generators

WEIGHTS = "diffusion_pytorch_model.safetensors"


@built_once
def small_vq() -> VAE:
    torch.manual_seed(0)
    model = diffusers.VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        num_vq_embeddings=16,
    )
    return VAE(model.eval().requires_grad_(False))


@built_once
def small_dc() -> VAE:
    torch.manual_seed(0)
    kinds, widths, scales = ("ResBlock", "EfficientViTBlock"), (8, 8), ((), (5,))
    model = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
    )
    return VAE(model.eval().requires_grad_(False))


def test_a_pipelines_folder_of_which_the_vae_alone_is_there_is_loaded(tmp_path):
    small_kl().save(tmp_path / "pipeline" / "vae")
    assert load_vae(tmp_path / "pipeline").fingerprint() == small_kl().fingerprint()


STATISTICS = {"latents_mean": [-1.0, 0.0, 0.5, 2.0], "latents_std": [0.5, 1.0, 2.0, 3.0]}
FRAMES = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [True], **STATISTICS}


@built_once
def small_wan() -> VAE:
    torch.manual_seed(0)
    return VAE(diffusers.AutoencoderKLWan(**FRAMES).eval().requires_grad_(False))


@built_once
def small_qwen() -> VAE:
    torch.manual_seed(0)
    return VAE(diffusers.AutoencoderKLQwenImage(**FRAMES).eval().requires_grad_(False))


KINDS = {
    "kl": small_kl,
    "kl of 16 channels without quant_conv": lambda: small_kl(channels=16, quant=False),
    "tiny": small_tiny,
    "vq": small_vq,
    "dc": small_dc,
    "wan": small_wan,
    "qwen-image": small_qwen,
}
every_kind = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS.keys())


@pytest.fixture
def folder(tmp_path, vae) -> Path:
    vae.save(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_weights(folder: Path, edit) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


# --- what comes out


@every_kind
def test_latents_and_images_have_the_declared_shapes_in_float32(build, x):
    vae = build()
    z = vae.mean(x)
    assert z.shape == (2, vae.channels, 32 // vae.factor, 32 // vae.factor) and z.dtype == torch.float32
    assert vae.decode(z).shape == x.shape and vae.decode(z).dtype == torch.float32


@pytest.mark.parametrize("quant", [True, False])
def test_the_mean_is_that_of_diffusers_on_images_from_minus_one_to_one(x, quant):
    vae = small_kl(quant=quant)
    torch.testing.assert_close(vae.mean(x), vae.model.encode(x * 2 - 1).latent_dist.mean, rtol=1e-5, atol=1e-6)


def test_the_mean_of_a_tiny_autoencoder_is_its_latent(x):
    vae = small_tiny()
    assert torch.equal(vae.mean(x), vae.model.encode(x * 2 - 1).latents)


@every_kind
def test_decoding_is_that_of_diffusers_moved_to_zero_to_one(build, x):
    vae = build()
    z = vae.mean(x)
    theirs = vae.model.decode(z[:, :, None]).sample[:, :, 0] if vae.has_frames else vae.model.decode(z).sample
    assert torch.equal(vae.decode(z), (theirs + 1) / 2)


def test_decoding_is_not_clamped_and_reconstructing_is(vae, x):
    z = vae.mean(x)
    vae.model.decoder.conv_out.weight.mul_(100)
    assert vae.decode(z).min() < 0 and vae.decode(z).max() > 1
    assert torch.equal(vae.reconstruct(x), vae.decode(z).clamp(0, 1))


@pytest.mark.parametrize(
    ("build", "scale", "shift"), [(small_kl, 0.3, 0.0), (lambda: small_kl(quant=False), 0.3, 0.1), (small_tiny, 1.0, 0.0)]
)
def test_scaled_is_what_the_diffusion_model_sees(build, scale, shift, x):
    vae = build()
    z = vae.mean(x)
    assert torch.equal(vae.to_scaled(z), (z - shift) * scale)
    # One multiplication and one division: a few float32 roundings of numbers around one.
    torch.testing.assert_close(vae.from_scaled(vae.to_scaled(z)), z, rtol=1e-5, atol=1e-6)


def test_scaling_by_statistics_of_each_channel(x):
    """As in diffusers' pipeline for SDXL, (z − mean) · factor / std, and in that for Wan, where no factor is."""
    torch.manual_seed(0)
    kl = small_kl().model
    kl.register_to_config(**STATISTICS, scaling_factor=0.5)
    for vae, factor in ((VAE(kl), 0.5), (small_wan(), 1.0)):
        mean, std = (torch.tensor(STATISTICS[name]).view(1, 4, 1, 1) for name in ("latents_mean", "latents_std"))
        z = vae.mean(x)
        torch.testing.assert_close(vae.to_scaled(z), (z - mean) * factor / std, rtol=1e-6, atol=1e-6)
        # A few float32 roundings of numbers around one.
        torch.testing.assert_close(vae.from_scaled(vae.to_scaled(z)), z, rtol=1e-5, atol=1e-6)


def test_a_sample_is_the_draw_diffusers_makes_with_the_same_generator(vae, x):
    theirs = vae.model.encode(x[:1] * 2 - 1).latent_dist.sample(generator(3, 0))
    # The same formula in the same precision, the products perhaps fused.
    torch.testing.assert_close(vae.sample(x[:1], [generator(3, 0)]), theirs, rtol=1e-6, atol=1e-6)


def test_a_sample_does_not_depend_on_the_batch(vae, x):
    together, alone = vae.sample(x, generators(3, [0, 1])), vae.sample(x[1:], generators(3, [1]))
    # Convolutions may sum in another order for another batch size: float32 roundings.
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(vae.sample(x[1:], generators(3, [2])), alone)


def test_a_sample_is_the_mean_where_there_is_no_posterior(x):
    vae = small_tiny()
    assert torch.equal(vae.sample(x, generators(3, [0, 1])), vae.mean(x))


def test_images_and_latents_are_float32_for_a_model_in_half_precision(vae, x):
    exact = vae.mean(x)
    vae.model.to(torch.bfloat16)
    assert vae.mean(x).dtype == vae.decode(exact).dtype == torch.float32
    # bfloat16 has 8 bits of mantissa: a few per cent after some ten layers, of latents of about one.
    torch.testing.assert_close(vae.mean(x), exact, rtol=0.1, atol=0.1)


def test_the_model_keeps_its_mode_and_its_requires_grad():
    model = small_kl().model.train().requires_grad_(True)
    VAE(model)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_size_between_multiples_is_refused(vae):
    vae.check_size(32, 64)
    with pytest.raises(InputError, match="30 x 32 pixels.*multiples of 4"):
        vae.check_size(30, 32)


# --- what is trained


@every_kind
def test_the_encoder_is_what_receives_a_gradient_from_the_latents(build, x):
    vae = build()
    vae.model.requires_grad_(True)
    vae.mean(x).sum().backward()
    reached = {name for name, p in vae.model.named_parameters() if p.grad is not None}
    declared = {f"{name}.{key}" for name, module in vae.encoder_modules().items() for key, _ in module.named_parameters()}
    # Convolutions over time do nothing to a single frame.
    assert reached == {name for name in declared if "time_conv" not in name}


@every_kind
def test_the_encoder_is_not_what_decodes(build, x):
    vae = build()
    z = vae.mean(x)
    vae.model.requires_grad_(True)
    vae.decode(z).sum().backward()
    assert all(p.grad is None for module in vae.encoder_modules().values() for p in module.parameters())


# --- fingerprints


@every_kind
def test_the_fingerprint_survives_saving_and_loading(build, tmp_path):
    vae = build()
    vae.save(tmp_path / "model")
    assert load_vae(tmp_path / "model").fingerprint() == vae.fingerprint()


def test_the_fingerprint_knows_a_single_weight(vae):
    before = vae.fingerprint()
    weight = vae.model.decoder.conv_out.weight.view(-1)
    weight[7] = torch.nextafter(weight[7], torch.tensor(9.0))
    assert vae.fingerprint() != before


def test_the_fingerprint_is_of_values_and_not_of_layout_or_precision(vae):
    vae.model.to(torch.bfloat16)
    before = vae.fingerprint()
    vae.model.to(torch.float32, memory_format=torch.channels_last)
    assert vae.fingerprint() == before


# --- loading


def test_a_folder_loads_frozen_in_evaluation_mode_and_float32(folder, vae, x):
    loaded = load_vae(folder)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.dtype == torch.float32 and torch.equal(loaded.mean(x), vae.mean(x))


def test_a_folder_loads_in_the_precision_asked_for(folder):
    assert load_vae(str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_folder_of_a_pipeline_gives_its_vae(tmp_path, vae):
    vae.save(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert load_vae(tmp_path).fingerprint() == vae.fingerprint()


def test_a_relative_folder_loads(folder, vae, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load_vae("model").fingerprint() == vae.fingerprint()


def test_plain_weights_in_a_bin_file_load(folder, vae):
    (folder / WEIGHTS).unlink()
    torch.save(vae.model.state_dict(), folder / "diffusion_pytorch_model.bin")
    assert load_vae(folder).fingerprint() == vae.fingerprint()


# --- refusing


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        load_vae(tmp_path / "nowhere")


def test_a_file_is_no_folder(folder):
    with pytest.raises(InputError, match="config.json is neither a folder"):
        load_vae(folder / "config.json")


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no config.json"):
        load_vae(tmp_path)


def test_a_pipeline_without_a_vae_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="vae has no config.json"):
        load_vae(tmp_path)


def test_a_config_that_names_no_class_is_refused(folder):
    edit_config(folder, _class_name=None)
    with pytest.raises(InputError, match="config.json names no class"):
        load_vae(folder)


def test_a_config_that_names_an_unknown_class_is_refused(folder):
    edit_config(folder, _class_name="AutoencoderOfTomorrow")
    with pytest.raises(InputError, match="AutoencoderOfTomorrow"):
        load_vae(folder)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe"])
def test_a_config_that_is_no_json_object_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json is not a JSON object"):
        load_vae(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="has no weights"):
        load_vae(folder)


def test_corrupted_weights_are_refused(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:500])
    with pytest.raises(InputError, match="cannot load a VAE"):
        load_vae(folder)


def test_weights_of_another_shape_are_refused(folder):
    edit_weights(folder, lambda tensors: tensors.update({"encoder.conv_in.bias": torch.zeros(3)}))
    with pytest.raises(InputError, match="encoder.conv_in.bias"):
        load_vae(folder)


def test_missing_weights_are_refused_and_not_drawn_at_random(folder):
    edit_weights(folder, lambda tensors: tensors.pop("encoder.conv_in.weight"))
    with pytest.raises(InputError, match="encoder.conv_in.weight"):
        load_vae(folder)


def test_weights_that_are_not_finite_are_refused(folder):
    edit_weights(folder, lambda tensors: tensors["encoder.conv_in.bias"].fill_(torch.nan))
    with pytest.raises(InputError, match="finite"):
        load_vae(folder)


class CreatesFile:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda x, f: torch.save({"a": x}, f), lambda x, f: f.write_bytes(pickle.dumps(x))])
def test_a_pickle_is_refused_and_not_executed(folder, tmp_path, write):
    trap = CreatesFile(tmp_path / "executed")
    (folder / WEIGHTS).unlink()
    write(trap, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load a VAE"):
        load_vae(folder)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists(), "the trap does not work"


def test_code_beside_the_weights_is_not_executed(folder, tmp_path):
    edit_config(folder, auto_map={"AutoModel": "model.Model"})
    (folder / "model.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Model: pass\n")
    with contextlib.suppress(InputError):
        load_vae(folder)
    assert not (tmp_path / "executed").exists()


def small_video_decoder() -> torch.nn.Module:
    """Encodes images, decodes videos."""
    return diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )


def small_causal_video() -> torch.nn.Module:
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


def small_audio() -> torch.nn.Module:
    return diffusers.AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=3,
    )


@pytest.mark.parametrize("build", [small_causal_video, small_video_decoder, small_audio])
def test_an_autoencoder_for_video_or_sound_is_refused(build, tmp_path):
    build().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="give an image autoencoder"):
        load_vae(tmp_path)


def test_a_model_that_is_no_autoencoder_is_refused():
    model = diffusers.UNet2DModel(
        block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4
    )
    with pytest.raises(InputError, match="UNet2DModel.*give an image autoencoder"):
        VAE(model)
