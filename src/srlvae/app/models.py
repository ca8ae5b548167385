"""What the page works with: a pipeline, its VAE and the hardened one, each loaded when it is first needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.images import read_square
from srlvae.models.load import load_pipeline
from srlvae.models.pairs import check_like, differences
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, load_vae

# Side of the squares in pixels where there is no pipeline that was made for a size.
SIZE = 256
# How many encoders are kept in memory beside the two of the page.
KEPT = 4


@dataclass(frozen=True)
class Choice:
    """The models of the page, in the words of the command line.

    - pipeline: what edits. Without one there are no edits and no attacks on pipelines.
    - vae: the original, in place of the pipeline's.
    - hardened: what hardening made of the original.
    - size: the side in pixels of the squares that pictures are cut to; the pipeline's own by default.
    """

    pipeline: str | None = "tiny-sd"
    vae: str | None = None
    hardened: str = "tiny-srl"
    size: int | None = None
    device: Any = "cpu"

    def __post_init__(self):
        if not (self.pipeline or self.vae):
            raise InputError("give --pipeline, --vae, or both")


class Models:
    """The models of a choice. Several threads may ask; each model is loaded once."""

    def __init__(self, choice: Choice):
        self.choice = choice
        self._lock = threading.RLock()
        self._pipelines: dict[str, Pipeline] = {}
        self._encoders: OrderedDict[str, VAE] = OrderedDict()

    def load(self) -> list[str]:
        """Load both VAEs, and return reasons to doubt that they belong together; see `models.pairs`.

        Raises InputError if one cannot be loaded, if neither can take the other's place, or for squares of a size that they do
        not take.
        """
        self.original.check_size(self.size, self.size)
        check_like(self.original, self.hardened)
        return differences(self.original, self.hardened)

    @property
    def has_pipeline(self) -> bool:
        """Whether there is a pipeline to edit with."""
        return self.choice.pipeline is not None

    @property
    def original(self) -> VAE:
        """The VAE that others were hardened from."""
        return self.pipeline().vae if self.has_pipeline else self.encoder(self.choice.vae or "")

    @property
    def hardened(self) -> VAE:
        """The hardened VAE."""
        return self.encoder(self.choice.hardened)

    @property
    def size(self) -> int:
        """The side in pixels of the squares that pictures are cut to."""
        return self.choice.size or (self.pipeline().size if self.has_pipeline else SIZE)

    def pipeline(self, hardened: bool = False) -> Pipeline:
        """The pipeline with the original or with the hardened VAE in it. Raises InputError where there is none."""
        choice = self.choice
        if not choice.pipeline:
            raise InputError("there is no pipeline here that edits; start the page with --pipeline")
        with self._lock:
            if "original" not in self._pipelines:
                self._pipelines["original"] = load_pipeline(choice.pipeline, choice.vae, choice.device)
            if hardened and "hardened" not in self._pipelines:
                self._pipelines["hardened"] = self._pipelines["original"].with_vae(self.hardened)
            return self._pipelines["hardened" if hardened else "original"]

    def encoder(self, source: str) -> VAE:
        """The VAE called `source`, as `load_vae` reads it. Of others than the page's, those long unused are forgotten."""
        with self._lock:
            if source not in self._encoders:
                self._encoders[source] = load_vae(source, self.choice.device)
            self._encoders.move_to_end(source)
            others = [known for known in self._encoders if known not in (self.choice.vae, self.choice.hardened)]
            for known in others[:-KEPT]:
                del self._encoders[known]
            return self._encoders[source]

    def read(self, picture: str | Path | None) -> Float[Tensor, "1 3 size size"]:
        """The centre square of a picture, as a batch of one. Raises InputError if there is none, or if it cannot be read."""
        if not picture:
            raise InputError("give a picture first, or take one of the examples")
        return read_square(Path(picture), self.size)[None].to(self.choice.device)
