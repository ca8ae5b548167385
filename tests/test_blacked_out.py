"""A pipeline with a safety checker: what it blacks out is named, and is no target of an attack."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from broken import picture
from conftest import small_kl
from heard import Heard
from pipelines import sd15
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.edits import edit_files, generate_files
from srlvae.errors import BlackedOutError, InputError
from srlvae.models.pipeline import Pipeline
from srlvae.rng import generators


class Suspects(torch.nn.Module):
    """A safety checker that suspects the images at some places of each batch, as diffusers calls it."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, places: set[int]):
        super().__init__()
        self.places = places

    def forward(self, images, clip_input):
        flags = [i in self.places for i in range(len(images))]
        images = images.clone() if torch.is_tensor(images) else np.array(images)
        for i in self.places & set(range(len(images))):
            images[i] = 0
        return images, flags


def seen(images, return_tensors):
    """What diffusers hands to the checker beside the images."""
    return SimpleNamespace(to=lambda _: SimpleNamespace(pixel_values=torch.zeros(len(images), 3)))


def suspicious(*places: int) -> Pipeline:
    pipe = sd15(small_kl()).pipe
    pipe.register_modules(safety_checker=Suspects(set(places)), feature_extractor=seen)
    return Pipeline(pipe)


def test_a_black_picture_is_an_error_that_counts_them():
    with pytest.raises(BlackedOutError, match="1 of 2 images are black: .*safety checker") as caught:
        suspicious(1).generate(["a", "b"], generators(0, range(2)), steps=1)
    assert caught.value.numbers == [1] and caught.value.images[1].max() == 0 < caught.value.images[0].max()


@pytest.mark.parametrize("name", ["glaze", "nightshade"])
def test_a_target_is_never_black(name, x):
    request = Request(name, eps=8 / 255, steps=2)
    found, expected = (prepare(request, pipeline).perturb(x, ["a", "b"]) for pipeline in (suspicious(0, 1), sd15(small_kl())))
    assert torch.equal(found, expected)


def test_generated_images_that_are_black_are_left_out_and_the_others_are_there(tmp_path):
    heard = Heard()
    generate_files(suspicious(1), ["a cat"], tmp_path / "out", count=3, steps=1, listener=heard)
    assert {path.name for path in (tmp_path / "out").glob("00-*.png")} == {"00-a-cat-000.png", "00-a-cat-002.png"}
    assert [(file.rpartition("/")[2], whole) for file, _, whole in heard.omissions] == [("00-a-cat-001.png", True)]
    assert "safety checker" in (tmp_path / "out" / "left-out.csv").read_text()
    with pytest.raises(InputError, match="none of the 3 images can be used.*safety checker"):
        generate_files(suspicious(0, 1, 2), ["a cat"], tmp_path / "none", count=3, steps=1)


def test_an_edit_that_is_black_is_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    picture(0, 64).save(tmp_path / "in" / "a.png")
    with pytest.raises(InputError, match="none of the 1 images can be used.*safety checker"):
        edit_files(suspicious(0), [tmp_path / "in"], "a dog", tmp_path / "out")
    assert not (tmp_path / "out" / "a.png").exists()


# --- edits are of the bytes that are there


def test_an_edit_follows_its_photograph_and_none_of_another_folder_replaces_it(tmp_path):
    pipeline, source = sd15(small_kl()), tmp_path / "in" / "photo.png"
    source.parent.mkdir()
    edited = tmp_path / "out" / "photo.png"

    def run(path=source):
        edit_files(pipeline, [path], "a dog", tmp_path / "out")
        return edited.read_bytes()

    picture(0, 64).save(source)
    first = run()
    time = edited.stat().st_mtime_ns
    assert run() == first and edited.stat().st_mtime_ns == time, "it is kept"
    picture(1, 64).save(source)
    assert run() != first
    (tmp_path / "other").mkdir()
    picture(2, 64).save(tmp_path / "other" / "photo.png")
    with pytest.raises(InputError, match="photo.png was made from .*in/photo.png, not from .*other/photo.png"):
        run(tmp_path / "other" / "photo.png")
    Image.new("RGB", (64, 64)).save(source.with_name("pictures.png"))
    with pytest.raises(InputError, match="as the record of the whole run is"):
        run(source.parent)
