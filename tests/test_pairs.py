"""Whether two VAEs belong together."""

from __future__ import annotations

import pytest
import torch

from conftest import SHARED, small_kl, small_tiny
from heard import Heard
from srlvae.errors import InputError
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.pairs import check_twin, differences, told_differences, unlike
from srlvae.models.vae import load_vae
from twins import hardened_twin


def test_a_vae_and_what_hardening_made_of_it_differ_in_nothing_else():
    assert differences(small_kl(), hardened_twin()) == []
    assert differences(small_kl(), small_kl()) == ["the two VAEs are one and the same"]
    assert differences(load_vae("tiny"), load_vae("tiny-srl")) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_decoder_that_was_saved_in_half_precision_is_the_same_one(tmp_path, dtype):
    small_kl().model.to(dtype).save_pretrained(tmp_path)
    rounded = load_vae(tmp_path)
    assert not torch.equal(rounded.model.decoder.conv_in.weight, small_kl().model.decoder.conv_in.weight)
    assert differences(rounded, hardened_twin()) == []
    with torch.no_grad():
        rounded.model.decoder.conv_in.weight[0, 0, 0, 0] += 0.01
    assert len(differences(rounded, hardened_twin())) == 1


def test_latents_of_another_kind_are_named_with_their_cosine():
    (said,) = unlike(small_kl(), small_tiny())
    assert said.startswith("the two VAEs write latents of different kinds (a cosine of ")
    assert said in differences(small_kl(), small_tiny())


def test_latents_of_another_size_are_named():
    assert unlike(small_kl(), load_vae("tiny")) == ["the two VAEs make images 4 and 8 times smaller"]


def test_a_benchmark_is_told_before_it_starts():
    heard = Heard()
    assert told_differences(small_kl(), hardened_twin(), heard) == heard.texts == []
    found = told_differences(small_kl(), small_tiny(), heard)
    assert heard.texts == [f"Do not believe what follows: {doubt}" for doubt in found] != []
    with pytest.raises(InputError, match="do not belong together"):
        told_differences(small_kl(), load_vae("tiny"), heard)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED} (set SRLVAE_SHARED to the folder of real data)")
def test_the_latents_of_taesd_are_not_those_of_tiny():
    taesd = load_vae(SHARED / "models" / "taesd")
    assert unlike(taesd, apply_encoder(read_encoder("taesd-srl"), taesd)) == []
    assert len(unlike(taesd, load_vae("tiny"))) == 1


def test_a_twin_is_neither_of_the_two():
    original, hardened = small_kl(), hardened_twin()
    check_twin(original, hardened, hardened_twin(seed=2))
    for twin in (small_kl(), hardened_twin()):
        with pytest.raises(InputError, match="the twin is the original or the hardened VAE itself.*--seed"):
            check_twin(original, hardened, twin)
    with pytest.raises(InputError, match="do not belong together"):
        check_twin(original, hardened, load_vae("tiny"))
