"""The networks that make tiny-clip: its towers, the teacher, the student with its heads; what they see and how they agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from captions import TOKENS
from srlvae.metrics.features import load_features

SMOOTHING = 0.1


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 3}
    vision = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 6}
    model = CLIPModel(
        CLIPConfig(
            text_config=text | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS},
            vision_config=vision | {"image_size": 128, "patch_size": 16},
            projection_dim=128,
        )
    )
    # Plain attention: its backward pass is the faster one on CPUs.
    model.set_attn_implementation("eager")
    return model


class Teacher(nn.Module):
    """EfficientNet-Lite0, frozen, and a projection of its features to the space that images and texts share."""

    def __init__(self):
        super().__init__()
        self.scale, self.projection = nn.BatchNorm1d(320, affine=False, momentum=None), nn.Linear(320, 128)
        # In a list, so that it is no part of the state.
        self.network = [load_features("efficientnet-lite0")]

    @torch.no_grad()
    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unit columns at strides 16 and 32, `b 112 8 8` and `b 320 4 4`; x in [0,1]."""
        with torch.autocast("cpu", torch.bfloat16):
            fine, coarse = self.network[0].columns(x.contiguous(memory_format=torch.channels_last))[-2:]
        return fine.float(), coarse.float()

    def forward(self, coarse: Tensor) -> Tensor:
        return F.normalize(self.projection(self.scale(coarse.mean((2, 3)))), dim=-1)


class Student(nn.Module):
    """CLIP, and heads that read the teacher's maps off the image tower's patches."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        width = model.config.vision_config.hidden_size
        self.model, self.fine, self.coarse = model, nn.Linear(width, 112), nn.Linear(width, 320)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of images, and maps like the teacher's; x in [0,1]."""
        found = self.model.vision_model(pixel_values=x * 2 - 1)
        grid = found.last_hidden_state[:, 1:].transpose(1, 2).unflatten(2, (8, 8))
        fine = self.fine(grid.movedim(1, -1)).movedim(-1, 1)
        coarse = self.coarse(F.avg_pool2d(grid, 2).movedim(1, -1)).movedim(-1, 1)
        return F.normalize(self.model.visual_projection(found.pooler_output).float(), dim=-1), fine.float(), coarse.float()


def augment(x: Tensor, draw: torch.Generator) -> Tensor:
    """Random squares of 40 to 100 % of the area, flips, brightness, contrast and colour; uint8 in, [0,1] out."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(len(x), *shape, generator=draw)

    scale = (0.4 + 0.6 * uniform()).sqrt()
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * torch.where(uniform() < 0.5, -1.0, 1.0), scale
    theta[:, 0, 2], theta[:, 1, 2] = (1 - scale) * (2 * uniform() - 1), (1 - scale) * (2 * uniform() - 1)
    x = F.grid_sample(x.float() / 255, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast, colour = 0.7 + 0.6 * uniform(1, 1, 1), 0.8 + 0.4 * uniform(3, 1, 1)
    return (((x - mean) * contrast + mean) * colour).clamp(0, 1)


def embed_texts(model: CLIPModel, tokens) -> Tensor:
    return F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)


def contrast(model: CLIPModel, images: Tensor, texts: Tensor, target: Tensor) -> Tensor:
    logits = model.logit_scale.exp().clamp(max=100) * images @ texts.T
    return F.cross_entropy(logits, target, label_smoothing=SMOOTHING)
