"""Encoder files: what is in them, onto which base they go, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import small_kl, small_tiny
from srlvae import zoo
from srlvae.errors import InputError
from srlvae.models.encoders import apply_encoder, base_fingerprint, read_encoder, write_encoder
from srlvae.models.posterior import hold_variance
from srlvae.models.vae import VAE, load_vae


def hardened(build=small_kl) -> VAE:
    """The autoencoder with another encoder."""
    vae = build()
    for module in vae.encoder_modules().values():
        for weight in module.parameters():
            weight.mul_(1.25)
    return vae


BUILDS = {
    "kl": small_kl,
    "kl without quant_conv": lambda: small_kl(channels=16, quant=False),
    "tiny": small_tiny,
}
every_kind = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())


@every_kind
def test_an_encoder_file_has_the_encoder_alone_and_makes_the_hardened_model(build, tmp_path):
    write_encoder(tmp_path / "e.safetensors", hardened(build), build(), {"steps": 3})
    names = tuple(f"{name}." for name in build().encoder_modules())
    assert {key for key in load_file(tmp_path / "e.safetensors")} == {
        key for key in build().model.state_dict() if key.startswith(names)
    }
    base = build()
    made = apply_encoder(tmp_path / "e.safetensors", base)
    assert made.fingerprint() == hardened(build).fingerprint() != base.fingerprint() == build().fingerprint()
    assert read_encoder(tmp_path / "e.safetensors").facts["steps"] == 3


def test_half_precision_rounds_the_weights_and_no_more(tmp_path, x):
    write_encoder(tmp_path / "e.safetensors", hardened(), small_kl(), {}, torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "e.safetensors").values()} == {torch.bfloat16}
    made = apply_encoder(tmp_path / "e.safetensors", small_kl())
    assert made.dtype == torch.float32
    for name, weight in hardened().model.state_dict().items():
        expected = weight.bfloat16().float() if name.startswith(("encoder.", "quant_conv.")) else weight
        assert torch.equal(made.model.state_dict()[name], expected)


def test_a_base_in_bfloat16_is_the_same_base(tmp_path):
    write_encoder(tmp_path / "e.safetensors", hardened(), small_kl(), {})
    rounded = small_kl()
    rounded.model.to(torch.bfloat16)
    assert base_fingerprint(rounded.model) == base_fingerprint(small_kl().model)
    assert apply_encoder(tmp_path / "e.safetensors", rounded).dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["decoder.conv_out.weight", "encoder.conv_in.weight", "post_quant_conv.bias"])
def test_another_base_is_refused_by_its_fingerprint(tmp_path, part):
    write_encoder(tmp_path / "e.safetensors", hardened(), small_kl(), {})
    other = small_kl()
    other.model.state_dict()[part].view(-1)[0] += 0.1
    found = base_fingerprint(other.model)[:12]
    with pytest.raises(InputError, match=f"belongs to another base: .* AutoencoderKL of 4 channels.*, not {found}"):
        apply_encoder(tmp_path / "e.safetensors", other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("encoder.conv_in.bias"), "other tensors"),
        (lambda tensors: tensors.update({"decoder.conv_in.bias": torch.zeros(8)}), "other tensors"),
        (lambda tensors: tensors.update({"encoder.conv_in.bias": torch.zeros(3)}), "other tensors"),
        (lambda tensors: tensors["encoder.conv_in.bias"].fill_(torch.nan), "not finite"),
    ],
)
def test_an_encoder_that_has_not_just_the_encoder_s_tensors_is_refused(tmp_path, change, said):
    write_encoder(tmp_path / "e.safetensors", hardened(), small_kl(), {})
    encoder, base = read_encoder(tmp_path / "e.safetensors"), small_kl()
    change(encoder.tensors)
    with pytest.raises(InputError, match=said):
        apply_encoder(encoder, base)
    assert base.fingerprint() == small_kl().fingerprint()


@pytest.mark.parametrize("facts", ["[]", "{}", '{"base": 3}', '{"base": {}}', "no JSON"])
def test_a_file_whose_metadata_names_no_base_is_refused(tmp_path, facts):
    save_file({"x": torch.zeros(2)}, tmp_path / "e.safetensors", {"srlvae": facts})
    with pytest.raises(InputError, match="not an encoder file"):
        read_encoder(tmp_path / "e.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"no safetensors", {"x": torch.zeros(2)}])
def test_what_is_no_encoder_file_is_refused(tmp_path, content):
    path = tmp_path / "e.safetensors"
    if isinstance(content, dict):
        save_file(content, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not an encoder file"):
        read_encoder(path)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A package with one bundled encoder, `small-srl`, whose base is on the hub."""
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    path = tmp_path / "zoo" / "encoders" / "small-srl.safetensors"
    write_encoder(path, hardened(), small_kl(), {}, torch.float16, {"hub": "someone/small"})
    return path


def test_a_bundled_encoder_is_loaded_onto_its_base_from_the_hub(bundle, monkeypatch):
    asked = []
    monkeypatch.setattr("srlvae.models.vae._load_from_hub", lambda name, dtype: asked.append(name) or small_kl().model)
    vae = load_vae("small-srl", dtype=torch.bfloat16)
    assert asked == ["hf://someone/small"] and vae.dtype == torch.bfloat16
    assert load_vae("small-srl").fingerprint() == apply_encoder(bundle, small_kl()).fingerprint()


def test_a_base_that_cannot_be_had_is_named_with_what_to_do(bundle, monkeypatch):
    def unreachable(name, dtype):
        raise InputError(f"cannot reach {name}")

    monkeypatch.setattr("srlvae.models.vae._load_from_hub", unreachable)
    with pytest.raises(InputError, match="cannot reach hf://someone/small.*srlvae apply small-srl --to FOLDER"):
        load_vae("small-srl")
    with pytest.raises(InputError, match="it was made from someone/small"):
        apply_encoder("small-srl", small_tiny())


def test_a_folder_of_the_same_name_goes_before_the_bundled_encoder(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hardened().save(tmp_path / "small-srl")
    assert load_vae("small-srl").fingerprint() == hardened().fingerprint()


@pytest.mark.parametrize("name", ["../small-srl", "encoders/small-srl", ""])
def test_other_names_are_no_bundled_encoders(bundle, name):
    assert zoo.encoder_file(name) is None


def test_a_vae_that_was_hardened_with_an_open_variance_is_named_as_such(tmp_path):
    vae = small_kl()
    vae.save(tmp_path)
    load_vae(tmp_path)
    (tmp_path / "srlvae.json").write_text("{}")
    with pytest.warns(UserWarning, match="hardened without holding its variance.*Harden the original again"):
        load_vae(tmp_path)
    pipeline = tmp_path / "pipeline"
    vae.save(pipeline / "vae")
    (pipeline / "model_index.json").write_text("{}")
    (pipeline / "vae" / "srlvae.json").write_text("{}")
    with pytest.warns(UserWarning, match="hardened without holding its variance"):
        load_vae(pipeline)
    hold_variance(vae, torch.zeros(4))
    vae.save(tmp_path)
    load_vae(tmp_path)


def test_the_file_says_what_it_belongs_to_and_names_no_path(tmp_path):
    small_kl().save(tmp_path / "base")
    write_encoder(tmp_path / "e.safetensors", hardened(), load_vae(tmp_path / "base"), {})
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        said = file.metadata()["srlvae"]
    facts = json.loads(said)
    assert facts["base"] == {"class": "AutoencoderKL", "channels": 4, "fingerprint": base_fingerprint(small_kl().model)}
    assert str(tmp_path) not in said
