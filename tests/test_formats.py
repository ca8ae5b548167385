"""Single files: what other programs wrote loads as the same function, and what it is is found offline."""

from __future__ import annotations

import logging
import re

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import SHARED, small_tiny
from ldm import Autoencoder, tiny_decoder, tiny_encoder
from srlvae.errors import InputError
from srlvae.models.vae import VAE, load_vae
from test_vae import CreatesFile, small_dc, small_wan

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Convolutions of size one against products of matrices: the same sums in another order, over some ten layers.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def ldm(**settings) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(**settings).eval().requires_grad_(False)


def save(model: torch.nn.Module, path, prefix: str = "", **more: torch.Tensor):
    path.parent.mkdir(exist_ok=True)
    save_file({prefix + name: value.contiguous() for name, value in model.state_dict().items()} | more, path)
    return path


def save_pair(folder, name: str, latent: int, ending: str = "safetensors"):
    torch.manual_seed(0)
    halves = tiny_encoder(latent), tiny_decoder(latent)
    for half, model in zip(("encoder", "decoder"), halves, strict=True):
        path = folder / f"{name}_{half}.{ending}"
        save(model, path) if ending == "safetensors" else torch.save(model.state_dict(), path)
    return [half.requires_grad_(False) for half in halves]


# --- LDM


@pytest.mark.parametrize(
    "settings", [{}, {"widths": (32, 64, 64, 96), "layers": 2}, {"latent": 16, "quant": False}], ids=["sd", "deep", "flux"]
)
def test_an_ldm_file_is_the_function_that_wrote_it(settings, tmp_path, x):
    model = ldm(**settings)
    vae = load_vae(save(model, tmp_path / "vae.safetensors"))
    torch.testing.assert_close(vae.mean(x), model.mean(x * 2 - 1), **CLOSE)
    z = vae.mean(x)
    torch.testing.assert_close(vae.decode(z), (model.decode(z) + 1) / 2, **CLOSE)
    assert not vae.model.training and not any(p.requires_grad for p in vae.model.parameters())


def test_a_whole_checkpoint_gives_its_autoencoder_and_the_rest_is_ignored(tmp_path, x):
    model = ldm()
    others = {"model.diffusion_model.time_embed.0.weight": torch.zeros(4), "cond_stage_model.transformer.w": torch.zeros(1)}
    path = save(model, tmp_path / "model.safetensors", "first_stage_model.", **others)
    torch.testing.assert_close(load_vae(path).mean(x), model.mean(x * 2 - 1), **CLOSE)
    assert load_vae(path).scaling_factor == 0.18215


@pytest.mark.parametrize("ending", ["ckpt", "pt", "bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_load_with_or_without_a_dictionary_around(ending, legacy, tmp_path):
    model = ldm()
    content = {"state_dict": model.state_dict(), "epoch": 3} if ending == "ckpt" else model.state_dict()
    torch.save(content, tmp_path / f"vae.{ending}", _use_new_zipfile_serialization=not legacy)
    other = load_vae(save(model, tmp_path / "vae.safetensors"))
    assert load_vae(tmp_path / f"vae.{ending}").fingerprint() == other.fingerprint()


def test_a_checkpoint_in_half_precision_loads_in_float32(tmp_path):
    assert load_vae(save(ldm().half(), tmp_path / "vae.safetensors")).dtype == torch.float32


@pytest.mark.parametrize(
    "beside, latent, factor, shift",
    [
        ({"conditioner.embedders.1.model.ln_final.weight": torch.zeros(1)}, 4, 0.13025, 0),
        ({"model.diffusion_model.joint_blocks.0.context_block.w": torch.zeros(1)}, 16, 1.5305, 0.0609),
        ({"model.diffusion_model.double_blocks.0.img_attn.w": torch.zeros(1)}, 16, 0.3611, 0.1159),
    ],
    ids=["sdxl", "sd3", "flux"],
)
def test_the_scaling_is_found_by_what_lies_beside(beside, latent, factor, shift, tmp_path):
    path = save(ldm(latent=latent, quant=latent == 4), tmp_path / "m.safetensors", "first_stage_model.", **beside)
    vae = load_vae(path)
    assert (vae.scaling_factor, vae.shift_factor) == (factor, shift)


@pytest.mark.parametrize(
    "name, latent, factor",
    [("sdxl_vae", 4, 0.13025), ("ae", 16, 0.3611), ("sd3_vae", 16, 1.5305), ("vae-ft-mse-840000-ema-pruned", 4, 0.18215)],
)
def test_the_scaling_is_found_by_the_name(name, latent, factor, tmp_path, caplog):
    assert load_vae(save(ldm(latent=latent), tmp_path / f"{name}.safetensors")).scaling_factor == factor
    assert not caplog.records


def test_the_tensors_beside_say_more_than_the_name(tmp_path):
    beside = {"conditioner.embedders.1.model.ln_final.weight": torch.zeros(1)}
    path = save(ldm(), tmp_path / "mix_v1-5.safetensors", "first_stage_model.", **beside)
    assert load_vae(path).scaling_factor == 0.13025


def test_a_scaling_that_is_guessed_is_said_and_another_can_be_asked_for(tmp_path, caplog):
    path = save(ldm(), tmp_path / "mine.safetensors")
    with caplog.at_level(logging.WARNING):
        assert load_vae(path).scaling_factor == 0.18215
    assert "assuming sd" in caplog.text and "mine.safetensors:sdxl" in caplog.text
    caplog.clear()
    assert load_vae(f"{path}:sdxl").scaling_factor == 0.13025 and not caplog.records
    with pytest.raises(InputError, match="flux names no model with latents of 4 channels; known: sd, sdxl"):
        load_vae(f"{path}:flux")


def test_statistics_of_latents_in_a_checkpoint_are_kept(tmp_path):
    mean, deviation = torch.tensor([-1.6, 1.1, 3.1, -1.5]), torch.tensor([8.4, 5.9, 5.9, 7.0])
    statistics = {"edm_mean": mean.view(1, 4, 1, 1), "edm_std": deviation.view(1, 4, 1, 1)}
    path = save(ldm(), tmp_path / "playground.safetensors", "first_stage_model.", **statistics)
    config = load_vae(path).model.config
    assert config.scaling_factor == 0.5 and config.latents_mean == mean.tolist() and config.latents_std == deviation.tolist()


# --- diffusers' names


def test_a_single_file_of_diffusers_with_its_config_beside(tmp_path, vae, x):
    vae.save(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "mine.safetensors")
    loaded = load_vae(tmp_path / "mine.safetensors")
    assert loaded.fingerprint() == vae.fingerprint() and loaded.scaling_factor == 0.3
    assert torch.equal(loaded.mean(x), vae.mean(x))


def test_a_file_that_says_whose_latents_it_makes_is_followed_before_the_config_beside_it(tmp_path, vae, caplog):
    vae.save(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "sdxl_vae.safetensors")
    with caplog.at_level(logging.WARNING):
        assert load_vae(tmp_path / "sdxl_vae.safetensors").scaling_factor == 0.13025
    assert "for sdxl (factor 0.13025), and the config.json beside it says 0.3" in caplog.text
    caplog.clear()
    assert load_vae(f"{tmp_path}/sdxl_vae.safetensors:sd").scaling_factor == 0.18215 and not caplog.records


def test_where_no_model_has_so_many_channels_the_factor_that_is_assumed_is_said(tmp_path, caplog):
    path = save(ldm(latent=3), tmp_path / "kl-f4.safetensors")
    with caplog.at_level(logging.WARNING):
        assert load_vae(path).scaling_factor == 0.18215
    assert "3 channels is known here; assuming the factor 0.18215" in caplog.text


def test_a_single_file_of_diffusers_without_a_config(tmp_path, x):
    found = load_vae(save(ldm(), tmp_path / "ldm.safetensors"))
    found.save(tmp_path / "folder")
    alone = tmp_path / "alone.safetensors"
    (tmp_path / "folder" / WEIGHTS).rename(alone)
    assert torch.equal(load_vae(alone).mean(x), found.mean(x))


@pytest.mark.parametrize("content", ["{", '{"_class_name": "UNet2DModel"}', '{"_class_name": "AutoencoderTiny"}', "[1]"])
def test_a_config_of_something_else_is_left_alone(content, tmp_path, x):
    model = ldm()
    (tmp_path / "config.json").write_text(content)
    torch.testing.assert_close(load_vae(save(model, tmp_path / "vae.safetensors")).mean(x), model.mean(x * 2 - 1), **CLOSE)


def test_groups_that_no_shape_shows_are_asked_for(tmp_path, vae):
    vae.save(tmp_path / "folder")
    (tmp_path / "folder" / WEIGHTS).rename(tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="put the model's config.json beside"):
        load_vae(tmp_path / "alone.safetensors")


def test_old_names_of_attention_load_from_a_file_and_from_a_folder(tmp_path, vae):
    vae.save(tmp_path)
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / WEIGHTS)
    for new, old in renamed.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    assert any("proj_attn" in name for name in state)
    (tmp_path / WEIGHTS).unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    assert load_vae(tmp_path).fingerprint() == vae.fingerprint()
    assert load_vae(tmp_path / "diffusion_pytorch_model.bin").fingerprint() == vae.fingerprint()


def small_hunyuan() -> VAE:
    """Its attention is made of convolutions, as in LDM, under the names of diffusers."""
    torch.manual_seed(0)
    widths = {"block_out_channels": (32, 64), "layers_per_block": 1, "latent_channels": 8}
    model = diffusers.AutoencoderKLHunyuanImage(3, 3, **widths, spatial_compression_ratio=4, sample_size=64)
    return VAE(model.eval().requires_grad_(False))


@pytest.mark.parametrize("build", [small_dc, small_wan, small_hunyuan])
def test_another_class_loads_by_its_config(build, tmp_path):
    build().save(tmp_path)
    assert load_vae(tmp_path / WEIGHTS).fingerprint() == build().fingerprint()


# --- Wan and Qwen-Image

WAN = {
    r"^quant_conv": "conv1",
    r"^post_quant_conv": "conv2",
    r"^(\w+)\.conv_in": r"\1.conv1",
    r"norm_out": "head.0",
    r"conv_out": "head.2",
    r"mid_block\.attentions\.0": "middle.1",
    r"mid_block\.resnets\.(\d)": lambda m: f"middle.{2 * int(m[1])}",
    r"up_blocks\.(\d)\.resnets\.(\d)": lambda m: f"upsamples.{4 * int(m[1]) + int(m[2])}",
    r"up_blocks\.(\d)\.upsamplers\.0": lambda m: f"upsamples.{4 * int(m[1]) + 3}",
    r"down_blocks": "downsamples",
    r"conv_shortcut": "shortcut",
    r"(middle\.[02]|samples\.\d+)\.norm1": r"\1.residual.0",
    r"(middle\.[02]|samples\.\d+)\.conv1": r"\1.residual.2",
    r"(middle\.[02]|samples\.\d+)\.norm2": r"\1.residual.3",
    r"(middle\.[02]|samples\.\d+)\.conv2": r"\1.residual.6",
}


def test_a_file_under_the_names_of_wan_loads(tmp_path, x):
    torch.manual_seed(0)
    vae = VAE(diffusers.AutoencoderKLWan(base_dim=8).eval().requires_grad_(False))
    state = {}
    for name, value in vae.model.state_dict().items():
        for new, old in WAN.items():
            name = re.sub(new, old, name)
        state[name] = value
    assert {"conv1.weight", "encoder.downsamples.0.residual.0.gamma", "decoder.upsamples.3.resample.1.weight"} <= state.keys()
    save_file(state, tmp_path / "qwen_image_vae.safetensors")
    loaded = load_vae(tmp_path / "qwen_image_vae.safetensors")
    assert loaded.fingerprint() == vae.fingerprint()
    assert torch.equal(loaded.to_scaled(loaded.mean(x)), vae.to_scaled(vae.mean(x)))


# --- TAESD


@pytest.mark.parametrize("name, latent", [("taesd", 4), ("taesdxl", 4), ("taesd3", 16), ("taef1", 16)])
def test_a_pair_of_taesd_is_the_function_that_wrote_it(name, latent, tmp_path, x):
    encoder, decoder = save_pair(tmp_path, name, latent)
    for half in ("encoder", "decoder"):
        vae = load_vae(tmp_path / f"{name}_{half}.safetensors")
        torch.testing.assert_close(vae.mean(x), encoder(x), **CLOSE)
        torch.testing.assert_close(vae.decode(vae.mean(x)), decoder(encoder(x)), **CLOSE)
    assert load_vae(tmp_path).fingerprint() == vae.fingerprint()


def test_a_pair_of_torch_files_loads(tmp_path, x):
    encoder, _ = save_pair(tmp_path, "taesd", 4, "pth")
    torch.testing.assert_close(load_vae(tmp_path / "taesd_encoder.pth").mean(x), encoder(x), **CLOSE)


def test_both_halves_in_one_file_load(tmp_path, x):
    encoder, decoder = save_pair(tmp_path, "taesd", 4)
    for number, (first, second) in enumerate([("taesd_encoder.", "taesd_decoder."), ("encoder.", "decoder.")]):
        state = {first + name: value for name, value in encoder.state_dict().items()}
        state |= {second + name: value for name, value in decoder.state_dict().items()} | {"vae_scale": torch.tensor(0.18215)}
        save_file(state, tmp_path / f"both{number}.safetensors")
        torch.testing.assert_close(load_vae(tmp_path / f"both{number}.safetensors").mean(x), encoder(x), **CLOSE)


def test_a_tiny_autoencoder_of_diffusers_loads_without_a_config(tmp_path, x):
    vae = small_tiny()
    vae.save(tmp_path / "folder")
    (tmp_path / "folder" / WEIGHTS).rename(tmp_path / "alone.safetensors")
    loaded = load_vae(tmp_path / "alone.safetensors")
    assert loaded.fingerprint() == vae.fingerprint() and torch.equal(loaded.mean(x), vae.mean(x))


def test_the_other_half_of_a_taesd_is_the_file_of_the_same_ending(tmp_path, x):
    encoder, decoder = save_pair(tmp_path, "taesd", 4)
    (tmp_path / "taesd_decoder.json").write_text("{}")
    # Of another model, in the other format.
    torch.save(tiny_encoder(4).state_dict(), tmp_path / "taesd_encoder.pth")
    torch.save(tiny_decoder(4).state_dict(), tmp_path / "taesd_decoder.pth")
    vae = load_vae(tmp_path / "taesd_encoder.safetensors")
    torch.testing.assert_close(vae.decode(vae.mean(x)), decoder(encoder(x)), **CLOSE)


def test_a_file_with_layers_that_would_be_left_out_is_refused(tmp_path):
    model = ldm()
    # Where FLUX.2's autoencoder has its convolution of the posterior.
    model.encoder.quant_conv = torch.nn.Conv2d(8, 8, 1)
    save(model, tmp_path / "flux2.safetensors")
    with pytest.raises(InputError, match="give its folder in diffusers' layout"):
        load_vae(tmp_path / "flux2.safetensors")


def test_half_a_taesd_is_refused(tmp_path):
    save_pair(tmp_path, "taesd", 4)
    with pytest.raises(InputError, match="leave out :sdxl"):
        load_vae(f"{tmp_path / 'taesd_encoder.safetensors'}:sdxl")
    (tmp_path / "taesd_decoder.safetensors").unlink()
    with pytest.raises(InputError, match="decoder must lie beside it as taesd_decoder.safetensors"):
        load_vae(tmp_path / "taesd_encoder.safetensors")
    save(tiny_encoder(4), tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(InputError, match="is not the decoder of TAESD"):
        load_vae(tmp_path / "taesd_encoder.safetensors")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED} (set SRLVAE_SHARED to the folder of real data)")
@pytest.mark.parametrize("name", ["taesd", "taef1"])
def test_the_real_ones_load_from_their_single_file(name):
    folder = SHARED / "models" / name
    assert load_vae(folder / WEIGHTS).fingerprint() == load_vae(folder).fingerprint()


# --- refusing


@pytest.mark.parametrize("name", ["text.safetensors", "text.ckpt"])
def test_a_file_that_is_damaged_is_named(name, tmp_path):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(InputError, match=f"cannot read weights from .*{name}"):
        load_vae(tmp_path / name)


def test_a_pickle_in_a_single_file_is_refused_and_not_executed(tmp_path):
    torch.save({"state_dict": {"a": CreatesFile(tmp_path / "executed")}}, tmp_path / "vae.ckpt")
    with pytest.raises(InputError, match="Only tensors are read"):
        load_vae(tmp_path / "vae.ckpt")
    assert not (tmp_path / "executed").exists()


def test_the_weights_of_a_training_scripts_checkpoint_are_found(tmp_path):
    state = ldm().state_dict()
    wanted = load_vae(save(ldm(), tmp_path / "vae.safetensors")).fingerprint()
    for name in ("model", "vae", "model_state_dict"):
        torch.save({name: state, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "last.pt")
        assert load_vae(tmp_path / "last.pt").fingerprint() == wanted
    torch.save({"weights": state, "epoch": 3}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="has no weights by name: it holds weights, epoch"):
        load_vae(tmp_path / "last.pt")


def test_a_whole_module_is_refused_in_plain_words(tmp_path):
    torch.save(ldm(), tmp_path / "whole.pt")
    with pytest.raises(
        InputError, match=r"whole\.pt: it holds an object of [\w.]+, and not weights alone\. Only tensors"
    ) as error:
        load_vae(tmp_path / "whole.pt")
    assert "\x1b" not in str(error.value)


def test_what_is_no_autoencoder_is_refused_by_its_names(tmp_path):
    save_file({"lora_unet_down.alpha": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="holds no autoencoder .*lora_unet_down.alpha"):
        load_vae(tmp_path / "lora.safetensors")


@pytest.mark.parametrize(
    "left_out", ["encoder.mid.block_1.norm1.bias", "decoder.conv_in.weight", "encoder.down.1.block.0.conv1.weight"]
)
def test_a_file_with_a_tensor_missing_is_refused(left_out, tmp_path):
    state = ldm().state_dict()
    del state[left_out]
    save_file(state, tmp_path / "vae.safetensors")
    with pytest.raises(InputError, match="missing"):
        load_vae(tmp_path / "vae.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = ldm()
    model.encoder.conv_in.bias.fill_(torch.inf)
    with pytest.raises(InputError, match="not finite, encoder.conv_in.bias"):
        load_vae(save(model, tmp_path / "vae.safetensors"))


def test_a_folder_names_the_single_files_in_it(tmp_path):
    save(ldm(), tmp_path / "vae-ft-mse.safetensors")
    with pytest.raises(InputError, match="give one of its single files: vae-ft-mse.safetensors"):
        load_vae(tmp_path)
