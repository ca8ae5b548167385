"""Generated and edited files: reproducible one by one, resumable, never mixed with other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import small_kl
from heard import Heard
from pipelines import SIZE, sd15
from srlvae.edits import edit_files, generate_files
from srlvae.errors import InputError
from srlvae.images import read_image, to_levels
from srlvae.models.edit_settings import EditSettings
from srlvae.rng import generators

PROMPTS = ["a photo of a cat", "Ünder the sea / 海"]


@pytest.fixture(scope="module")
def pipeline():
    return sd15(small_kl())


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, size in enumerate([(SIZE, SIZE), (90, 70)]):
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{'ab'[i]}.jpg")
    return folder


def times(folder) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.png") if p.name != "sheet.png"}


# The tokens of this pipeline are letters.
@pytest.mark.filterwarnings("ignore:1 of 2 prompts are longer")
def test_images_are_those_of_the_pipeline_with_a_sheet_and_a_record(tmp_path, pipeline):
    heard = Heard()
    sheet = generate_files(pipeline, PROMPTS, tmp_path, count=3, steps=2, listener=heard)
    assert heard.bars == {"images": [(3, 6), (6, 6)]}
    names = sorted(times(tmp_path))
    assert names[0] == "00-a-photo-of-a-cat-000.png" and len(names) == 6
    expected = pipeline.generate([PROMPTS[0]] * 3, generators(0, range(3)), steps=2)
    found = torch.stack([read_image(tmp_path / name) for name in names[:3]])
    assert torch.equal(to_levels(found), to_levels(expected))
    _, height, width = read_image(sheet).shape
    assert width > 3 * SIZE and height > 2 * SIZE
    record = json.loads((tmp_path / "pictures.json").read_text())
    assert record["prompts"] == PROMPTS and record["vae"] == pipeline.vae.fingerprint()


def test_the_sheet_shows_a_few_of_many(tmp_path, pipeline):
    sheet = generate_files(pipeline, PROMPTS[:1], tmp_path, count=10, steps=1)
    _, height, width = read_image(sheet).shape
    assert len(times(tmp_path)) == 10 and 8 * SIZE < width < 10 * SIZE and height < 2 * SIZE


def test_what_is_there_is_kept_and_other_settings_are_refused(tmp_path, pipeline):
    generate_files(pipeline, PROMPTS[:1], tmp_path, count=2, steps=2)
    before = times(tmp_path)
    generate_files(pipeline, PROMPTS[:1], tmp_path, count=3, steps=2)
    after = times(tmp_path)
    assert len(after) == 3 and before.items() <= after.items()
    with pytest.raises(InputError, match="other settings"):
        generate_files(pipeline, PROMPTS[:1], tmp_path, count=2, steps=3)
    # The same pipeline elsewhere is the same.
    pipeline.pipe.register_to_config(_name_or_path="/elsewhere")
    generate_files(pipeline, PROMPTS[:1], tmp_path, count=3, steps=2)
    assert times(tmp_path) == after


def test_an_edit_does_not_depend_on_its_neighbours_and_any_size_is_taken(tmp_path, pipeline, photographs):
    edit_files(pipeline, [photographs], PROMPTS[0], tmp_path / "both", EditSettings(steps=4))
    edit_files(pipeline, [photographs / "b.jpg"], PROMPTS[0], tmp_path / "alone", EditSettings(steps=4))
    both, alone = (read_image(tmp_path / folder / "b.png") for folder in ("both", "alone"))
    assert torch.equal(both, alone) and both.shape == (3, SIZE, SIZE)
    assert sorted(times(tmp_path / "both")) == ["a.png", "b.png"]
    assert (tmp_path / "both" / "sheet.png").is_file()


def test_a_picture_that_was_enlarged_is_edited_and_named(tmp_path, pipeline):
    for side in (SIZE // 2 - 1, SIZE // 2):
        Image.new("RGB", (side, 2 * SIZE), "red").save(tmp_path / f"{side}.png")
    heard = Heard()
    edit_files(pipeline, [tmp_path], PROMPTS[0], tmp_path / "out", EditSettings(steps=2), listener=heard)
    assert [Path(file).name for file, *_ in heard.omissions] == [f"{SIZE // 2 - 1}.png"]
    assert "enlarged from" in heard.omissions[0][1] and heard.omissions[0][2] is False
    assert len(times(tmp_path / "out")) == 2


def test_bad_input_is_refused_before_anything_is_written(tmp_path, pipeline, photographs):
    with pytest.raises(InputError, match="at most 1"):
        edit_files(pipeline, [photographs], "", tmp_path / "out", EditSettings(strength=2.0))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="something else"):
        generate_files(pipeline, [""], photographs, count=1)
    with pytest.raises(InputError, match="output folder"):
        edit_files(pipeline, [photographs / "a.jpg"], "", photographs)
