"""What of a prompt a pipeline reads: its text encoders take a number of tokens, and what is beyond is cut off."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from srlvae.models.pipeline import Pipeline


def unread(pipeline: Pipeline, prompt: str) -> str:
    """The end of a prompt that the pipeline's text encoder does not read; blank where it reads all."""
    tokenizer = pipeline.pipe.tokenizer
    tokens = tokenizer(prompt, verbose=False).input_ids
    # The last token that is read is the one that ends the text.
    beyond = tokens[tokenizer.model_max_length - 1 : -1]
    return tokenizer.decode(beyond).strip() if len(tokens) > tokenizer.model_max_length else ""


def warn_of_unread(pipeline: Pipeline, prompts: Sequence[str]) -> None:
    """Warn of prompts of which the pipeline's text encoder does not read the end."""
    ends = [end for prompt in prompts if (end := unread(pipeline, prompt))]
    if ends:
        most = pipeline.pipe.tokenizer.model_max_length
        warnings.warn(
            f"{len(ends)} of {len(prompts)} prompts are longer than the {most} tokens that this pipeline reads; of the first, "
            f"it does not read: {ends[0]}",
            stacklevel=2,
        )
