"""A judge that never saw the generator: which concept an image shows, by a linear probe on EfficientNet-Lite0's features."""

from __future__ import annotations

import json
from pathlib import Path

from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from srlvae.metrics.features import Features, load_features
from srlvae.zoo import bundled


class Judge:
    """Class scores of images. `concepts` are the classes in words, in the order of the scores."""

    def __init__(self, concepts: list[str], features: Features, weight: Float[Tensor, "c d"], bias: Float[Tensor, " c"]):
        self.concepts, self.features, self.weight, self.bias = concepts, features, weight, bias

    def scores(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Logits, images in [0,1]."""
        return self.features.pooled(x) @ self.weight.to(x).T + self.bias.to(x)

    def calls(self, x: Float[Tensor, "b 3 h w"]) -> Int[Tensor, " b"]:
        """The number of the concept that each image is called."""
        return self.scores(x).argmax(1)


def load_judge(source: str | Path = "judge") -> Judge:
    """The judge that is bundled under a name, or in a folder of judge.json and judge.safetensors."""
    folder = bundled(str(source)) or Path(source)
    about = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "judge.safetensors")
    return Judge(about["concepts"], load_features(about["features"]), weights["weight"].float(), weights["bias"].float())
