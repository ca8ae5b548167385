"""Which concept an image shows, judged by a linear probe on EfficientNet-Lite0's features that never saw the generator."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from srlvae.config import MOST_PIXELS
from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.images import Images, check_images
from srlvae.metrics.features import FEATURES, Features, load_features
from srlvae.words import shortened
from srlvae.zoo import bundled

# Of the weights in a probe's loss, and the most steps of L-BFGS.
PENALTY, ITERATIONS = 1e-3, 200
# Of the photographs that probes are fitted on, in pixels.
SIZE = 128


class Judge:
    """A classifier of images: a linear probe, `weight` and `bias`, on pooled features.

    `concepts` are the classes in words, in the order of the scores. `size` is the side in pixels of the images that the probe
    was fitted on; other images are resized to it.
    """

    def __init__(
        self, concepts: list[str], features: Features, weight: Float[Tensor, "c d"], bias: Float[Tensor, " c"], size: int = SIZE
    ):
        self.concepts, self.features, self.weight, self.bias, self.size = concepts, features, weight, bias, size

    def scores(self, x: Images) -> Float[Tensor, "b c"]:
        """The logit of every concept, for images in [0,1]."""
        if check_images(x).shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return self.features.pooled(x) @ self.weight.to(x).T + self.bias.to(x)

    def predict(self, x: Images) -> Int[Tensor, " b"]:
        """The index of the concept with the largest score, for each image."""
        return self.scores(x).argmax(1)

    def fingerprint(self) -> str:
        """The SHA-256 of the probe and of the name of its feature network, which stands for that network's weights."""
        probe = torch.cat([self.weight.flatten(), self.bias]).float().cpu().numpy().tobytes()
        return hashlib.sha256(f"{self.features.name} {self.size} {self.concepts}".encode() + probe).hexdigest()


def load_judge(source: str | Path = "judge") -> Judge:
    """Load the judge that is bundled under a name, or one in a folder with judge.json and judge.safetensors.

    Raises InputError for anything else.
    """
    folder = bundled(str(source)) or Path(source)
    about = read_record(folder / "judge.json")
    concepts, features, size = about.get("concepts"), about.get("features"), about.get("size", SIZE)
    if not isinstance(concepts, list) or not all(isinstance(concept, str) for concept in concepts) or features not in FEATURES:
        raise InputError(f"{folder / 'judge.json'} does not name concepts and one of the features {', '.join(FEATURES)}")
    if not isinstance(size, int) or not 16 <= size <= MOST_PIXELS:
        raise InputError(f"{folder / 'judge.json'}: size must be a whole number of pixels, got {shortened(size)}")
    network = load_features(features)
    if not network.gives_pooled:
        raise InputError(f"{folder / 'judge.json'}: {features} gives no pooled vector, which a probe looks at")
    wide = network.pooled(torch.zeros(1, 3, 64, 64)).shape[1]
    try:
        weights = load_file(folder / "judge.safetensors")
        weight, bias = weights["weight"].float(), weights["bias"].float()
    except (SafetensorError, OSError, MemoryError, KeyError) as error:
        raise InputError(f"cannot read the judge in {folder}: {error}") from error
    fits = weight.shape == (len(concepts), wide) and bias.shape == (len(concepts),)
    if not fits or not (weight.isfinite().all() and bias.isfinite().all()):
        raise InputError(
            f"the judge in {folder} has weights that are not finite, or not of its {len(concepts)} concepts and {wide} features"
        )
    return Judge(concepts, network, weight, bias, size)


def fit_probe(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int) -> tuple[Tensor, Tensor]:
    """Weight `c d` and bias `c` of the multinomial logistic regression that tells classes apart by pooled features.

    Every class has the same weight, and features are standardised within.
    """
    mean, std = features.mean(0), features.std(0) + 1e-6
    scaled = (features - mean) / std
    balance = 1 / torch.bincount(labels, minlength=classes).float()
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight.T + bias, labels, weight=balance) + PENALTY * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    weight, bias = weight.detach(), bias.detach()
    return weight / std, bias - weight @ (mean / std)


def soften(x: Images, factor: int) -> Images:
    """`x` at 1/factor of its resolution, and back at its size."""
    if factor == 1:
        return x
    small = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, x.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
