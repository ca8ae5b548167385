"""Models out: every name and shape as other programs have them, the same function there, and the same model when read again."""

from __future__ import annotations

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from conftest import SHARED, small_kl, small_tiny
from ldm import Autoencoder, tiny_decoder, tiny_encoder
from srlvae.errors import InputError
from srlvae.models.formats.export import export
from srlvae.models.vae import VAE, load_vae

# Convolutions of size one against products of matrices: the same sums in another order, over some ten layers.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SHAPES = {
    "sd": {"widths": (32, 64), "layers": 2, "latent": 4, "quant": True},
    "four levels": {"widths": (32, 64, 96, 96), "layers": 1, "latent": 4, "quant": True},
    "flux": {"widths": (32, 32, 64), "layers": 2, "latent": 16, "quant": False},
}


def kl(widths, layers, latent, quant) -> VAE:
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=layers,
        latent_channels=latent,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
        scaling_factor=0.7,
        shift_factor=0.1,
    )
    return VAE(model.eval().requires_grad_(False))


def tiny(channels: int = 4) -> VAE:
    torch.manual_seed(0)
    return VAE(diffusers.AutoencoderTiny(latent_channels=channels).eval().requires_grad_(False))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_ldm_file_has_every_tensor_of_the_original_code_and_is_the_same_function(shape, tmp_path, x):
    vae, model = kl(**shape), Autoencoder(**shape).eval().requires_grad_(False)
    (path,) = export(vae, "ldm", tmp_path / "vae.safetensors")
    model.load_state_dict(load_file(path), strict=True)
    torch.testing.assert_close(model.mean(x * 2 - 1), vae.mean(x), **CLOSE)
    z = vae.mean(x)
    torch.testing.assert_close((model.decode(z) + 1) / 2, vae.decode(z), **CLOSE)


@pytest.mark.parametrize("channels", [4, 16])
def test_a_pair_has_every_tensor_of_taesd_and_is_the_same_function(channels, tmp_path, x):
    vae, halves = tiny(channels), (tiny_encoder(channels), tiny_decoder(channels))
    paths = export(vae, "taesd", tmp_path)
    name = {4: "taesd", 16: "taef1"}[channels]
    assert [path.name for path in paths] == [f"{name}_encoder.safetensors", f"{name}_decoder.safetensors"]
    for path, half in zip(paths, halves, strict=True):
        half.requires_grad_(False).load_state_dict(load_file(path), strict=True)
    torch.testing.assert_close(halves[0](x), vae.mean(x), **CLOSE)
    torch.testing.assert_close(halves[1](vae.mean(x)), vae.decode(vae.mean(x)), **CLOSE)


@pytest.mark.parametrize(
    ("build", "to"),
    [(small_kl, "ldm"), (lambda: small_kl(16, False), "ldm"), (small_tiny, "taesd"), (small_kl, "diffusers")],
    ids=["kl", "kl of 16 channels", "tiny", "diffusers"],
)
def test_what_is_written_is_read_as_the_same_model(build, to, tmp_path, x):
    vae = build()
    before = vae.fingerprint()
    out = tmp_path / ("vae.safetensors" if to == "ldm" else "vae")
    export(vae, to, out)
    again = load_vae(out)
    assert again.fingerprint() == before == vae.fingerprint() and torch.equal(again.mean(x), vae.mean(x))
    assert (again.scaling_factor, again.shift_factor) == (vae.scaling_factor, vae.shift_factor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_precision_is_that_asked_for(dtype, tmp_path, vae):
    (path,) = export(vae, "ldm", tmp_path / "vae.safetensors", dtype=dtype)
    assert {value.dtype for value in load_file(path).values()} == {dtype}
    wanted = {name: value.to(dtype).float() for name, value in vae.model.state_dict().items()}
    found = load_vae(path).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert vae.dtype == torch.float32


def test_a_variant_is_what_diffusers_loads_by_it(tmp_path, vae):
    export(vae, "diffusers", tmp_path / "vae", dtype=torch.float16, variant="fp16")
    assert (tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    loaded = diffusers.AutoencoderKL.from_pretrained(tmp_path / "vae", variant="fp16", torch_dtype=torch.float16)
    assert torch.equal(loaded.encoder.conv_in.weight, vae.model.encoder.conv_in.weight.half())
    assert load_vae(tmp_path / "vae").dtype == torch.float32


def test_a_pair_is_named_as_asked_for(tmp_path):
    paths = export(small_tiny(), "taesd", tmp_path, name="taesdxl")
    assert [path.name for path in paths] == ["taesdxl_encoder.safetensors", "taesdxl_decoder.safetensors"]


def test_a_file_says_nothing_of_where_the_model_came_from(tmp_path, vae):
    vae.save(tmp_path / "secret-place")
    (path,) = export(load_vae(tmp_path / "secret-place"), "ldm", tmp_path / "vae.safetensors")
    assert b"secret-place" not in path.read_bytes()


@pytest.mark.parametrize(
    ("build", "to", "options", "message"),
    [
        (small_tiny, "ldm", {}, "is for AutoencoderKL, but this is an AutoencoderTiny; use --to taesd"),
        (small_kl, "taesd", {}, "is for AutoencoderTiny, but this is an AutoencoderKL; use --to ldm"),
        (small_kl, "onnx", {}, "no layout 'onnx'"),
        (small_kl, "ldm", {"variant": "fp16"}, "leave it out"),
        (small_kl, "diffusers", {"name": "taesd"}, "leave it out"),
        *((small_kl, "diffusers", {"variant": word}, "begins with a letter") for word in ("8bit", "half-precision", "../up")),
        (small_tiny, "taesd", {"name": "taef1"}, "choose one of taesd, taesdxl"),
    ],
)
def test_what_cannot_be_written_is_said(build, to, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export(build(), to, tmp_path / "out.safetensors", **options)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path, vae):
    for to, out in (("ldm", "vae.safetensors"), ("diffusers", "vae")):
        export(vae, to, tmp_path / out)
        with pytest.raises(InputError, match="already|something in it"):
            export(vae, to, tmp_path / out)
    (tmp_path / "taesd_decoder.safetensors").write_text("mine")
    with pytest.raises(InputError, match="taesd_decoder.safetensors exists already"):
        export(small_tiny(), "taesd", tmp_path)
    assert not (tmp_path / "taesd_encoder.safetensors").exists()


def test_an_ldm_file_is_called_as_one(tmp_path, vae):
    with pytest.raises(InputError, match="ends with .safetensors"):
        export(vae, "ldm", tmp_path / "vae")


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path, vae):
    vae.model.encoder.conv_in.bias[0] = 1e6
    with pytest.raises(InputError, match="cannot hold all weights, for example encoder.conv_in.bias"):
        export(vae, "ldm", tmp_path / "vae.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED} (set SRLVAE_SHARED to the folder of real data)")
@pytest.mark.parametrize("name", ["taesd", "taef1"])
def test_the_real_ones_are_written_for_comfyui_and_read_again(name, tmp_path):
    vae = load_vae(SHARED / "models" / name)
    paths = export(vae, "taesd", tmp_path, dtype=torch.bfloat16)
    for path, half in zip(paths, (tiny_encoder(vae.channels), tiny_decoder(vae.channels)), strict=True):
        half.load_state_dict(load_file(path), strict=True)
    assert [path.name for path in paths] == [f"{name}_encoder.safetensors", f"{name}_decoder.safetensors"]
    # The weights are bfloat16 on the disk already, so nothing is lost.
    assert load_vae(tmp_path).fingerprint() == vae.fingerprint()
