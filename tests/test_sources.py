"""Where models are: how places are written, variants of weights in a folder, and the hub with its cache."""

from __future__ import annotations

import time

import pytest
import torch
from safetensors.torch import save_file

from conftest import small_tiny
from ldm import Autoencoder
from srlvae.errors import InputError
from srlvae.models.sources import parse
from srlvae.models.vae import load_vae

# --- variants


def only_variant(vae, folder, variant: str, dtype: torch.dtype) -> None:
    vae.model.to(dtype)
    vae.model.save_pretrained(folder, variant=variant)
    vae.model.to(torch.float32)


def test_a_folder_with_one_variant_alone_loads_and_of_several_one_is_asked_for(tmp_path, vae):
    only_variant(vae, tmp_path, "fp16", torch.float16)
    half = load_vae(tmp_path)
    assert half.dtype == torch.float32 and load_vae(f"{tmp_path}:fp16").fingerprint() == half.fingerprint()
    only_variant(vae, tmp_path, "bf16", torch.bfloat16)
    with pytest.raises(InputError, match="several variants: bf16, fp16"):
        load_vae(tmp_path)
    assert load_vae(f"{tmp_path}:bf16").fingerprint() != half.fingerprint()
    small_tiny().save(tmp_path)
    assert load_vae(tmp_path).fingerprint() == small_tiny().fingerprint()


def test_shards_load_with_and_without_a_variant(tmp_path, vae):
    vae.model.save_pretrained(tmp_path / "plain", max_shard_size="20KB")
    vae.model.save_pretrained(tmp_path / "named", max_shard_size="20KB", variant="fp16")
    assert len(list((tmp_path / "plain").glob("*-of-*"))) > 1
    assert load_vae(tmp_path / "plain").fingerprint() == load_vae(tmp_path / "named").fingerprint() == vae.fingerprint()


# --- the hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub with `someone/pipeline`, of which `vae/` alone is in it, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("srlvae.models.hub.online", lambda: False)
    monkeypatch.setattr("srlvae.models.vae.online", lambda: False)
    return tmp_path / "hub"


def cached(cache, repository: str, revision: str = "main", commit: str = "a" * 40):
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_pipeline_of_which_the_vae_alone_is_cached_loads_offline(cache, vae):
    vae.save(cached(cache, "someone/pipeline") / "vae")
    for name in ("hf://someone/pipeline", "hf://someone/pipeline/vae", "hf://someone/pipeline@main"):
        assert load_vae(name).fingerprint() == vae.fingerprint()


def test_revisions_variants_and_files_of_the_cache_load(cache, vae):
    small_tiny().save(cached(cache, "someone/small", "other", "b" * 40))
    top = cached(cache, "someone/small")
    only_variant(vae, top, "fp16", torch.float16)
    assert load_vae("hf://someone/small@other").fingerprint() == small_tiny().fingerprint()
    assert load_vae("hf://someone/small:fp16").fingerprint() == load_vae("hf://someone/small").fingerprint()
    save_file(Autoencoder().state_dict(), top / "sdxl_vae.safetensors")
    assert load_vae("hf://someone/small/sdxl_vae.safetensors").scaling_factor == 0.13025


@pytest.mark.parametrize("name", ["hf://someone/nothing", "hf://someone/nothing/vae", "hf://someone/nothing/ae.safetensors"])
def test_without_a_network_what_is_not_cached_is_said_so(cache, name):
    with pytest.raises(InputError, match="no network, and not in the cache"):
        load_vae(name)


def test_a_hub_that_cannot_be_reached_is_given_up_within_seconds(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(InputError, match="no network"):
        load_vae("hf://someone/nothing")
    # One refused connection; the library's own retries would take half a minute.
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a/b", ("a/b", "", None, None)),
        ("a/b/vae", ("a/b", "vae", None, None)),
        ("a/b/x/y@v1.0:fp16", ("a/b", "x/y", "v1.0", "fp16")),
        ("a/b@refs/pr/3", ("a/b", "", "refs/pr/3", None)),
        ("a-b/c.d_e:bf16", ("a-b/c.d_e", "", None, "bf16")),
    ],
)
def test_how_places_on_the_hub_are_written(text, expected):
    found = parse(f"hf://{text}", "VAE")
    assert found.path is None and (found.repository, found.inside, found.revision, found.word) == expected


@pytest.mark.parametrize("text", ["", "name", "/nowhere/x", "./a/b", "../a", "a//b", "a/b c", "https://huggingface.co/a/b"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(InputError, match="is not a folder, hub id, bundled VAE or file of weights"):
        parse(text, "VAE") if text else parse("~nothing", "VAE")


def test_a_path_with_a_colon_in_it_is_a_path(tmp_path, vae):
    vae.save(tmp_path / "run:fp16")
    assert load_vae(tmp_path / "run:fp16").fingerprint() == vae.fingerprint()
