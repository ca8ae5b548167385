"""What comes with the package: it loads without srlvae, is one piece, and takes any prompt."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image

from conftest import small_tiny
from srlvae.config import from_dict
from srlvae.harden import OBJECTIVES
from srlvae.harden.settings import Objective
from srlvae.metrics.clip import load_clip
from srlvae.metrics.judge import load_judge
from srlvae.models.encoders import read_encoder
from srlvae.models.load import load_pipeline
from srlvae.models.posterior import variance_is_held
from srlvae.models.vae import load_vae
from srlvae.rng import generators
from srlvae.zoo import FOLDER, bundled, names

RESULTS = Path(__file__).resolve().parents[1] / "results"


@functools.cache
def tiny_sd():
    return load_pipeline("tiny-sd")


@pytest.mark.parametrize("name", names())
def test_everything_bundled_has_a_card_with_a_licence_and_weights(name):
    folder = bundled(name)
    assert folder is not None and "license:" in (folder / "README.md").read_text(encoding="utf-8")
    assert list(folder.rglob("*.safetensors"))


def test_bundled_encoders_name_their_base_and_its_licence_and_are_small():
    files = sorted((FOLDER / "encoders").glob("*.safetensors"))
    assert [path.stem for path in files] == ["taef1-srl", "taesd-srl"]
    for path in files:
        facts = read_encoder(path.stem).facts
        assert facts["base"]["licence"] == "MIT" and facts["base"]["hub"].startswith("madebyollin/")
        assert from_dict(Objective, facts["config"]["objective"], "objective") == OBJECTIVES["srl"]
        assert path.stat().st_size < 2.6e6


def test_the_variance_of_the_bundled_hardened_vae_is_held():
    record = json.loads((FOLDER / "tiny-srl" / "srlvae.json").read_text(encoding="utf-8"))
    vae = load_vae("tiny-srl")
    assert record["original"] == load_vae("tiny").fingerprint() and record["hardened"] == vae.fingerprint()
    assert variance_is_held(vae)
    assert from_dict(Objective, record["config"]["objective"], "objective") == OBJECTIVES["srl"]


def test_other_names_are_not_bundled():
    assert bundled("tiny-xl") is None and bundled("") is None and bundled("..") is None


def test_the_pipeline_with_its_vae_is_at_most_30_megabytes():
    weights = [path.stat().st_size for path in (FOLDER / "tiny-sd").rglob("*.safetensors")]
    assert len(weights) == 3 and sum(weights) <= 30e6


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"])
def test_diffusers_loads_the_pipeline_by_itself(kind):
    pipe = getattr(diffusers, kind).from_pretrained(FOLDER / "tiny-sd", local_files_only=True)
    assert pipe.unet.config.sample_size * pipe.vae_scale_factor == 128
    assert pipe.scheduler.config.prediction_type == "v_prediction" and pipe.unet.config.cross_attention_dim == 128


def test_diffusers_runs_the_pipeline_by_itself():
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(FOLDER / "tiny-sd", local_files_only=True)
    assert pipe("a photo of a watch", num_inference_steps=1).images[0].size == (128, 128)


def test_a_pipeline_takes_the_latents_of_another_encoder():
    """As docs/tutorials/use.md has it: an AutoencoderTiny encodes for a pipeline whose own VAE decodes."""
    pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(FOLDER / "tiny-sd", local_files_only=True)
    encoder = small_tiny().model
    edits = []
    for level in (40, 200):
        x = pipe.image_processor.preprocess(Image.new("RGB", (64, 64), (level, 90, 90)))
        with torch.no_grad():
            latents = encoder.encode(x).latents
        edited = pipe("a watch", image=latents, strength=0.5, num_inference_steps=2, generator=generators(0, [0]))
        edits.append(edited.images[0])
    # Latents are taken as such: the picture has their sides times the VAE's factor.
    assert edits[0].size == (latents.shape[3] * 8, latents.shape[2] * 8) and edits[0] != edits[1]


def test_the_vae_of_the_pipeline_is_the_bundled_one():
    assert tiny_sd().vae.fingerprint() == load_vae("tiny").fingerprint()


def test_the_text_encoder_is_the_text_tower_of_tiny_clip():
    own = tiny_sd().pipe.text_encoder.state_dict()
    tower = load_clip("tiny-clip").model.text_model.state_dict()
    assert own.keys() == tower.keys() and all(torch.equal(own[name], tower[name]) for name in own)


@pytest.mark.parametrize("prompt", ["", "☂ 海 naïve", "a photo of a zebra", "word " * 200, "<|endoftext|> !!! \n\t"])
def test_any_prompt_gives_a_picture(prompt):
    (y,) = tiny_sd().generate([prompt], generators(0, [0]), steps=2)
    assert y.shape == (3, 128, 128) and 0 <= y.min() and y.max() <= 1 and y.std() > 0.01


def test_a_picture_does_not_depend_on_the_encoder():
    other = load_vae("tiny")
    with torch.no_grad():
        for weight in other.encoder_modules()["encoder"].parameters():
            weight += 0.05
    one = tiny_sd().generate(["a photo of a watch"], generators(0, [0]), steps=3)
    assert torch.equal(one, tiny_sd().with_vae(other).generate(["a photo of a watch"], generators(0, [0]), steps=3))


def test_an_edit_follows_its_prompt_and_keeps_the_image_at_low_strength():
    x = tiny_sd().generate(["a photo of a motorbike"], generators(0, [0]), steps=10)
    near, far = (
        tiny_sd().edit(x, ["a photo of a watch"], generators(0, [1]), steps=10, strength=strength) for strength in (0.1, 0.9)
    )
    again = tiny_sd().vae.reconstruct(x)
    assert (near - again).abs().mean() < 0.5 * (far - again).abs().mean()


@pytest.mark.slow
def test_the_judge_calls_as_many_images_their_concept_as_the_results_say():
    said, judge = json.loads((RESULTS / "tiny-sd.json").read_text(encoding="utf-8")), load_judge()
    each = said["judged"]["n"] // len(judge.concepts)
    calls = [
        judge.predict(tiny_sd().generate([f"a photo of a {c}"] * each, generators(0, range(each)))) for c in judge.concepts
    ]
    right = torch.stack(calls) == torch.arange(len(judge.concepts))[:, None]
    # Other batches than the recipe's, so other sums; an image in a hundred may be called otherwise.
    assert right.float().mean().item() == pytest.approx(said["judged"]["accuracy"], abs=0.02)
