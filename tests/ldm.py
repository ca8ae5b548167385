"""The autoencoders of other programs as plain modules of torch: latent diffusion's original one, and TAESD's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bag(nn.Module):
    """Submodules under names."""

    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, before: int, after: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = norm(before, groups), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after, groups), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k * x.shape[1] ** -0.5).softmax(-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


def middle(channels: int, groups: int) -> Bag:
    blocks = Block(channels, channels, groups), Block(channels, channels, groups)
    return Bag(block_1=blocks[0], attn_1=Attention(channels, groups), block_2=blocks[1])


def through(mid: nn.Module, x: Tensor) -> Tensor:
    return mid.block_2(mid.attn_1(mid.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], layers: int, out: int, groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down, width = nn.ModuleList(), widths[0]
        for i, wide in enumerate(widths):
            blocks = nn.ModuleList([Block(width if j == 0 else wide, wide, groups) for j in range(layers)])
            level, width = Bag(block=blocks), wide
            if i < len(widths) - 1:
                level.add_module("downsample", Bag(conv=nn.Conv2d(wide, wide, 3, stride=2)))
            self.down.append(level)
        self.mid = middle(width, groups)
        self.norm_out, self.conv_out = norm(width, groups), nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                x = block(x)
            if hasattr(level, "downsample"):
                x = level.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(through(self.mid, x))))


class Decoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], layers: int, latent: int, groups: int):
        super().__init__()
        width = widths[-1]
        self.conv_in, self.mid = nn.Conv2d(latent, width, 3, padding=1), middle(width, groups)
        levels = []
        for i, wide in reversed(list(enumerate(widths))):
            blocks = nn.ModuleList([Block(width if j == 0 else wide, wide, groups) for j in range(layers + 1)])
            level, width = Bag(block=blocks), wide
            if i > 0:
                level.add_module("upsample", Bag(conv=nn.Conv2d(wide, wide, 3, padding=1)))
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(width, groups), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = through(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                x = block(x)
            if hasattr(level, "upsample"):
                x = level.upsample.conv(F.interpolate(x, scale_factor=2.0))
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """As in Stable Diffusion's checkpoints, or without `quant` as in FLUX's."""

    def __init__(
        self, widths: tuple[int, ...] = (32, 64), layers: int = 1, latent: int = 4, groups: int = 32, quant: bool = True
    ):
        super().__init__()
        self.encoder = Encoder(widths, layers, 2 * latent, groups)
        self.decoder = Decoder(widths, layers, latent, groups)
        if quant:
            self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1), nn.Conv2d(latent, latent, 1)

    def mean(self, x: Tensor) -> Tensor:
        """Of images in [-1, 1]."""
        z = self.encoder(x)
        return (self.quant_conv(z) if hasattr(self, "quant_conv") else z).chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z) if hasattr(self, "post_quant_conv") else z)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class TinyBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def tiny_encoder(latent: int, width: int = 64, blocks: tuple[int, ...] = (1, 3, 3, 3)) -> nn.Sequential:
    """Images in [0, 1] to latents."""
    layers: list[nn.Module] = []
    for i, count in enumerate(blocks):
        first = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False) if i else nn.Conv2d(3, width, 3, padding=1)
        layers += [first, *(TinyBlock(width) for _ in range(count))]
    return nn.Sequential(*layers, nn.Conv2d(width, latent, 3, padding=1))


def tiny_decoder(latent: int, width: int = 64, blocks: tuple[int, ...] = (3, 3, 3, 1)) -> nn.Sequential:
    """Latents to images in [0, 1]."""
    layers: list[nn.Module] = [Clamp(), nn.Conv2d(latent, width, 3, padding=1), nn.ReLU()]
    for i, count in enumerate(blocks):
        layers += [TinyBlock(width) for _ in range(count)]
        if i < len(blocks) - 1:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))
