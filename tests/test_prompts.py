"""What of a prompt a pipeline reads."""

from __future__ import annotations

import pytest

from srlvae.edits import generate_files
from srlvae.models.load import load_pipeline
from srlvae.models.prompts import unread, warn_of_unread

LONG = "a photo of a very " + "very " * 90 + "yellow sunflower"


def test_the_end_of_a_long_prompt_is_not_read():
    pipeline = load_pipeline("tiny-sd")
    assert unread(pipeline, "a photo of a sunflower") == unread(pipeline, "") == ""
    end = unread(pipeline, LONG)
    assert end.endswith("yellow sunflower") and LONG.endswith(end)
    tokens = pipeline.pipe.tokenizer(LONG, truncation=True).input_ids
    read = pipeline.pipe.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert f"{read} {end}" == LONG


def test_prompts_that_are_not_read_whole_are_told(tmp_path, recwarn):
    pipeline = load_pipeline("tiny-sd")
    warn_of_unread(pipeline, ["a photo of a sunflower"])
    assert not recwarn.list
    with pytest.warns(UserWarning, match="1 of 2 prompts are longer than the 24 tokens .* does not read: .*yellow sunflower"):
        generate_files(pipeline, ["a cat", LONG], tmp_path / "out", count=1, steps=1)
