"""Train `tiny-clip`, the text and image towers of tiny-sd: transformers' CLIPModel with its own small tokenizer.

    python recipes/tiny_clip.py --images caltech101-128/train --out runs/tiny-clip
    python recipes/tiny_clip.py --images caltech101-128/train --out runs/tiny-clip --export src/srlvae/zoo/tiny-clip
    python recipes/tiny_clip.py --images caltech101-128/test --score results/tiny-clip.json

The first command trains and resumes by itself where it was stopped; the second writes the averaged weights as float16; the
third measures the bundled weights' zero-shot accuracy.
Contrastive over classes: every step encodes one caption of each class (a random template around its name), and every image
is to find that of its class. Some thousands of photographs are few for a vision transformer, so its pooled output also learns
to predict what EfficientNet-Lite0 says of the photograph (computed once, and kept in the folder).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from captions import CONCEPTS, TOKENS, build_tokenizer, caption, load_classes, tokenize, word
from srlvae.files import write_json
from srlvae.harden.checkpoint import load_checkpoint, save_checkpoint
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import Clip, load_clip, zero_shot
from srlvae.metrics.features import load_features
from srlvae.versions import versions

STEPS, BATCH, WARMUP, LR, WEIGHT_DECAY, EMA = 4000, 64, 200, 4e-4, 0.05, 0.995
W_TEACHER, SMOOTHING = 3.0, 0.1
SAVE_EVERY = 100
HALF = [0.5, 0.5, 0.5]


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 3}
    vision = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 6}
    return CLIPModel(
        CLIPConfig(
            text_config=text | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS},
            vision_config=vision | {"image_size": 128, "patch_size": 16},
            projection_dim=128,
        )
    )


class Towers(nn.Module):
    """CLIP, and a head that predicts the teacher's features from the image tower's pooled output."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        self.model, self.teacher = model, nn.Linear(model.config.vision_config.hidden_size, 1280)

    def forward(self, x: Tensor, tokens) -> tuple[Tensor, Tensor]:
        """Logits image × caption, and predicted features; x in [0,1]."""
        pooled = self.model.vision_model(pixel_values=x * 2 - 1).pooler_output
        image = F.normalize(self.model.visual_projection(pooled), dim=-1)
        text = F.normalize(self.model.text_projection(self.model.text_model(**tokens).pooler_output), dim=-1)
        return self.model.logit_scale.exp().clamp(max=100) * image @ text.T, self.teacher(pooled)


def augment(x: Tensor, draw: torch.Generator) -> Tensor:
    """Random squares of 60 to 100 % of the area, flips, brightness, contrast and colour; uint8 in, [0,1] out."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(len(x), *shape, generator=draw)

    scale = (0.6 + 0.4 * uniform()).sqrt()
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * torch.where(uniform() < 0.5, -1.0, 1.0), scale
    theta[:, 0, 2], theta[:, 1, 2] = (1 - scale) * (2 * uniform() - 1), (1 - scale) * (2 * uniform() - 1)
    x = F.grid_sample(x.float() / 255, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast, colour = 0.7 + 0.6 * uniform(1, 1, 1), 0.8 + 0.4 * uniform(3, 1, 1)
    return (((x - mean) * contrast + mean) * colour).clamp(0, 1)


def loss_of(towers: Towers, x: Tensor, target: Tensor, wanted: Tensor, tokens) -> tuple[Tensor, dict[str, float]]:
    with torch.autocast("cpu", torch.bfloat16):
        logits, predicted = towers(x, tokens)
    contrast = F.cross_entropy(logits.float(), target, label_smoothing=SMOOTHING)
    distance = 1 - F.cosine_similarity(predicted.float(), wanted).mean()
    return contrast + W_TEACHER * distance, {"contrast": contrast.item(), "teacher": distance.item()}


@torch.no_grad()
def taught(pixels: Tensor, file: Path) -> Tensor:
    """The teacher's features of every photograph, `n 1280`, standardised: what tells photographs apart, all of one scale."""
    if not file.exists():
        teacher = load_features("efficientnet-lite0")
        pooled = torch.cat([teacher.pooled(part.float() / 255) for part in track(pixels.split(64), "teacher")])
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"features": (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-6)}, file)
    return load_file(file)["features"]


def train(images: Path, out: Path, seed: int) -> None:
    torch.manual_seed(seed)
    names, pixels, labels = load_classes(images)
    held = torch.arange(len(labels)) % 20 == 0
    members = [torch.where((labels == c) & ~held)[0].numpy() for c in range(len(names))]
    # Between even classes and even photographs.
    chances = np.sqrt([len(m) for m in members])
    tokenizer = build_tokenizer(names)
    tokenizer.save_pretrained(out / "tokenizer")
    towers, features = Towers(build_model(tokenizer)), taught(pixels, out / "teacher.safetensors")
    average = AveragedModel(towers, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    optimizer = torch.optim.AdamW(towers.parameters(), lr=LR, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    state = out / "checkpoint.safetensors"
    step = load_checkpoint(state, {"towers": towers, "average": average}, optimizer)["step"] if state.exists() else 0
    board, started = SummaryWriter(str(out / "log")), time.time()
    while step < STEPS:
        rng, draw = np.random.default_rng((seed, step)), torch.Generator().manual_seed(seed * 10**7 + step)
        target = rng.choice(len(names), BATCH, p=chances / chances.sum())
        chosen = [rng.choice(members[c]) for c in target]
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / WARMUP) * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        # Text is causal and pooled at its end: what comes behind it is not seen, and need not be computed.
        tokens = tokenize(tokenizer, [caption(name, rng) for name in names], padding="longest")
        loss, parts = loss_of(towers, augment(pixels[chosen], draw), torch.from_numpy(target), features[chosen], tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(towers)
        step += 1
        for name, value in parts.items():
            board.add_scalar(f"train/{name}", value, step)
        if step % SAVE_EVERY == 0:
            clip = Clip("tiny-clip", average.module.model, tokenizer, HALF, HALF)
            accuracy = correct(clip, names, pixels[held], labels[held]).float().mean().item()
            board.add_scalar("held out/accuracy", accuracy, step)
            save_checkpoint(state, {"towers": towers, "average": average}, optimizer, {"step": step})
            print(step, f"{(time.time() - started) / 60:.1f} min", parts, f"accuracy {accuracy:.3f}", flush=True)


@torch.no_grad()
def correct(clip: Clip, names: list[str], pixels: Tensor, labels: Tensor) -> Tensor:
    """Whether each photograph is called its class, with one prompt a class."""
    prompts = [f"a photo of a {word(name)}" for name in names]
    found = torch.cat([zero_shot(clip, part.float() / 255, prompts) for part in pixels.split(64)])
    return found == labels


def export(run: Path, target: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(run / "tokenizer")
    average = AveragedModel(Towers(build_model(tokenizer)))
    load_checkpoint(run / "checkpoint.safetensors", {"average": average}, None)
    average.module.model.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
    scale = {
        "image_mean": HALF,
        "image_std": HALF,
        "size": {"shortest_edge": 128},
        "image_processor_type": "CLIPImageProcessor",
    }
    (target / "preprocessor_config.json").write_text(json.dumps(scale, indent=2) + "\n", encoding="utf-8")


def measure(images: Path, result: Path) -> None:
    """Zero-shot accuracy of the bundled weights: among tiny-sd's concepts, and among all classes."""
    clip, scores = load_clip("tiny-clip"), {"clip": "tiny-clip", "versions": versions()}
    for among, classes in (("concepts", CONCEPTS), ("all classes", None)):
        names, pixels, labels = load_classes(images, classes)
        right = correct(clip, names, pixels, labels).float()
        interval = bootstrap_interval(right, torch.Generator().manual_seed(0))
        scores[among] = {"classes": len(names), "n": len(right), "accuracy": right.mean().item(), "interval": interval}
    write_json(result, scores)
    print(json.dumps(scores, indent=2))


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    out: Annotated[Path, typer.Option(help="Checkpoints, tokenizer and the TensorBoard log.")] = Path("runs/tiny-clip"),
    export_to: Annotated[Path | None, typer.Option("--export", help="Write float16 weights here instead.")] = None,
    score: Annotated[Path | None, typer.Option(help="Measure the bundled weights and write this JSON instead.")] = None,
    seed: int = 0,
) -> None:
    if score:
        measure(images, score)
    elif export_to:
        export(out, export_to)
    else:
        train(images, out, seed)


if __name__ == "__main__":
    typer.run(main)
