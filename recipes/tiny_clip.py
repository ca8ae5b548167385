"""Train `tiny-clip`, the text and image towers of tiny-sd: transformers' CLIPModel with its own small tokenizer.

    python recipes/tiny_clip.py --images caltech101-128/train --out runs/tiny-clip
    python recipes/tiny_clip.py --images caltech101-128/train --out runs/tiny-clip --export src/srlvae/zoo/tiny-clip
    python recipes/tiny_clip.py --images caltech101-128/test --score results/tiny-clip.json

The first command trains and resumes by itself where it was stopped; the second writes the averaged weights as float16; the
third measures the bundled weights' zero-shot accuracy. Time: a minute for the texts and about half a second a step of one core.
The bundled image tower had 3,300 steps whose texts were by mistake another tokenizer's, then the last 1,600 of these 4,000.
Some thousands of photographs are few for a vision transformer, so EfficientNet-Lite0 teaches, in two phases. First the text
tower is trained contrastively against the teacher's locked features and a projection of them (as LiT: Zhai et al. 2022,
arXiv 2111.07991), over classes: every step encodes one caption of each class, and a photograph is to find that of its class.
Then the image tower is trained against the texts, which stay, and matches the teacher's embedding and feature maps on the same
augmented crops (Beyer et al. 2022, arXiv 2106.05237).
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
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from transformers import CLIPModel, CLIPTokenizer

from captions import CONCEPTS, TEMPLATES, build_tokenizer, caption, load_classes, tokenize, word
from srlvae.files import write_json
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import Clip, load_clip, zero_shot
from srlvae.provenance import environment
from srlvae.training.checkpoint import load_checkpoint, save_checkpoint
from srlvae.training.schedule import warm_cosine
from tiny_clip_networks import Student, Teacher, augment, build_model, contrast, embed_texts

TEXT_STEPS, TEXT_BATCH, TEXT_LR = 600, 256, 1e-3
STEPS, BATCH, WARMUP, LR, WEIGHT_DECAY, EMA = 4000, 64, 200, 1e-3, 0.05, 0.995
# Of the teacher's embedding, of its maps at stride 16 and at stride 32.
W_EMBEDDING, W_FINE, W_COARSE = 3.0, 1.0, 1.0
SAVE_EVERY = 100
HALF = [0.5, 0.5, 0.5]


class Photographs:
    """Training photographs by class, every 20th set apart, and draws that are a function of a seed and a step."""

    def __init__(self, folder: Path):
        self.names, self.pixels, self.labels = load_classes(folder)
        self.held = torch.arange(len(self.labels)) % 20 == 0
        self.members = [torch.where((self.labels == c) & ~self.held)[0].numpy() for c in range(len(self.names))]
        # Between even classes and even photographs, and the concepts of tiny-sd twice.
        chances = np.sqrt([len(m) for m in self.members]) * [2 if name in CONCEPTS else 1 for name in self.names]
        self.chances = chances / chances.sum()

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Numbers of photographs and of their classes."""
        target = rng.choice(len(self.names), count, p=self.chances)
        return torch.from_numpy(np.array([rng.choice(self.members[c]) for c in target])), torch.from_numpy(target)


def train_texts(model: CLIPModel, teacher: Teacher, tokenizer: CLIPTokenizer, photographs: Photographs, seed: int) -> None:
    """The text tower and the teacher's projection, against the teacher's features of whole photographs."""
    parts = track(photographs.pixels.split(64), "teacher's features")
    coarse = torch.cat([teacher.maps(part.float() / 255)[1] for part in parts])
    teacher.scale(coarse.mean((2, 3)))
    teacher.eval()
    parameters = [*teacher.parameters(), *model.text_model.parameters(), *model.text_projection.parameters(), model.logit_scale]
    optimizer = torch.optim.AdamW(parameters, lr=TEXT_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, TEXT_LR, total_steps=TEXT_STEPS)
    for step in track(range(TEXT_STEPS), "text tower"):
        rng = np.random.default_rng((seed, 1, step))
        chosen, target = photographs.draw(rng, TEXT_BATCH)
        # Text is causal and pooled at its end: what comes behind it is not seen, and need not be computed.
        tokens = tokenize(tokenizer, [caption(name, rng) for name in photographs.names], padding="longest")
        loss = contrast(model, teacher(coarse[chosen]), embed_texts(model, tokens), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    texts = embed_texts(model, tokenize(tokenizer, [f"a photo of a {word(name)}" for name in photographs.names]))
    held = photographs.held
    right = (teacher(coarse[held]) @ texts.T).argmax(1) == photographs.labels[held]
    print(f"text tower: loss {loss.item():.3f}, the teacher's held-out accuracy {right.float().mean():.3f}", flush=True)


def start(photographs: Photographs, out: Path, seed: int) -> tuple[Student, Teacher, CLIPTokenizer]:
    """The networks with their text tower trained, which is done once and kept in the folder."""
    torch.manual_seed(seed)
    # Ties between merges are broken differently in every process: a tokenizer is built once, and belongs to its text tower.
    if not (out / "tokenizer").exists():
        build_tokenizer(photographs.names).save_pretrained(out / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    student, teacher, file = Student(build_model(tokenizer)), Teacher(), out / "texts.safetensors"
    if not file.exists():
        train_texts(student.model, teacher, tokenizer, photographs, seed)
        save_model(nn.ModuleDict({"student": student, "teacher": teacher}), file)
    load_model(nn.ModuleDict({"student": student, "teacher": teacher}), file)
    for part in (teacher, student.model.text_model, student.model.text_projection):
        part.eval().requires_grad_(False)
    student.model.logit_scale.requires_grad_(False)
    return student, teacher, tokenizer


def loss_of(student: Student, teacher: Teacher, x: Tensor, texts: Tensor, target: Tensor) -> dict[str, Tensor]:
    fine, coarse = teacher.maps(x)
    with torch.autocast("cpu", torch.bfloat16):
        images, fine_found, coarse_found = student(x)
    return {
        "contrast": contrast(student.model, images, texts, target),
        "embedding": W_EMBEDDING * (1 - (images * teacher(coarse)).sum(-1)).mean(),
        "fine": W_FINE * (1 - F.cosine_similarity(fine_found, fine)).mean(),
        "coarse": W_COARSE * (1 - F.cosine_similarity(coarse_found, coarse)).mean(),
    }


def train(images: Path, out: Path, seed: int) -> None:
    photographs = Photographs(images)
    out.mkdir(parents=True, exist_ok=True)
    student, teacher, tokenizer = start(photographs, out, seed)
    captions = [template.format(word(name)) for name in photographs.names for template in TEMPLATES]
    with torch.no_grad():
        texts = embed_texts(student.model, tokenize(tokenizer, captions)).unflatten(0, (-1, len(TEMPLATES)))
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    state = out / "checkpoint.safetensors"
    step = load_checkpoint(state, {"student": student, "average": average}, optimizer)["step"] if state.exists() else 0
    board, started, held = SummaryWriter(str(out / "log")), time.time(), photographs.held
    while step < STEPS:
        rng, draw = np.random.default_rng((seed, 2, step)), torch.Generator().manual_seed(seed * 10**7 + step)
        chosen, target = photographs.draw(rng, BATCH)
        for group in optimizer.param_groups:
            group["lr"] = LR * warm_cosine(step, STEPS, WARMUP)
        template = torch.from_numpy(rng.integers(len(TEMPLATES), size=len(texts)))
        said = texts[torch.arange(len(texts)), template]
        parts = loss_of(student, teacher, augment(photographs.pixels[chosen], draw), said, target)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([*parts.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update_parameters(student)
        step += 1
        for name, value in parts.items():
            board.add_scalar(f"train/{name}", value.item(), step)
        if step % SAVE_EVERY == 0 or step == STEPS:
            clip = Clip("tiny-clip", average.module.model, tokenizer, HALF, HALF)
            right = correct(clip, photographs.names, photographs.pixels[held], photographs.labels[held])
            board.add_scalar("held out/accuracy", right.float().mean().item(), step)
            save_checkpoint(state, {"student": student, "average": average}, optimizer, {"step": step})
            shown = " ".join(f"{name} {value.item():.3f}" for name, value in parts.items())
            print(step, f"{(time.time() - started) / 60:.1f} min", shown, f"accuracy {right.float().mean():.3f}", flush=True)


@torch.no_grad()
def correct(clip: Clip, names: list[str], pixels: Tensor, labels: Tensor) -> Tensor:
    """Whether each photograph is called its class, with one prompt a class."""
    prompts = [f"a photo of a {word(name)}" for name in names]
    found = torch.cat([zero_shot(clip, part.float() / 255, prompts) for part in pixels.split(64)])
    return found == labels


def export(run: Path, target: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(run / "tokenizer")
    average = AveragedModel(Student(build_model(tokenizer)))
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
    clip, scores = load_clip("tiny-clip"), {"clip": "tiny-clip", "versions": environment()}
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
