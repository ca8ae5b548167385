"""Fit the judge of generated images: a linear probe on EfficientNet-Lite0's pooled features, over tiny-sd's concepts.

    python recipes/judge.py --images caltech101-128/train --export src/srlvae/zoo/judge
    python recipes/judge.py --images caltech101-128/test --score results/judge.json

The first command fits it on real photographs and their mirror images, sharp and softened (four minutes of one core); the second
measures the bundled judge on others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file

from captions import CONCEPTS, load_classes, word
from srlvae.files import write_json
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.features import load_features
from srlvae.metrics.judge import fit_probe, load_judge, soften
from srlvae.provenance import environment

FEATURES = "efficientnet-lite0"
# Photographs at full, half and a third of their resolution: a judge of what is there, not of how sharp it is. One that saw
# sharp photographs alone knew 19 % of tiny-sd's soft grey cars (results/tiny-sd-sharp-judge.json).
SOFTENED = (1, 2, 3)


@torch.no_grad()
def export(images: Path, target: Path) -> None:
    names, pixels, labels = load_classes(images, CONCEPTS)
    net = load_features(FEATURES)
    views = [(view, factor) for factor in SOFTENED for view in (pixels, pixels.flip(-1))]
    parts = [(part, factor) for view, factor in views for part in view.split(64)]
    pooled = [net.pooled(soften(part.float() / 255, factor)) for part, factor in track(parts, "features")]
    weight, bias = fit_probe(torch.cat(pooled), labels.repeat(len(views)), len(names))
    target.mkdir(parents=True, exist_ok=True)
    save_file({"weight": weight.half().contiguous(), "bias": bias.half()}, target / "judge.safetensors")
    write_json(target / "judge.json", {"features": FEATURES, "concepts": [word(name) for name in names]})


@torch.no_grad()
def measure(images: Path, result: Path) -> None:
    """Accuracy of the bundled judge on real photographs, over all and class by class."""
    judge, (names, pixels, labels) = load_judge(), load_classes(images, CONCEPTS)
    rights = {
        factor: torch.cat([judge.predict(soften(part.float() / 255, factor)) for part in pixels.split(64)]) == labels
        for factor in SOFTENED
    }
    right = rights[1]
    classes = {word(name): right[labels == c].float().mean().item() for c, name in enumerate(names)}
    interval = bootstrap_interval(right.float(), torch.Generator().manual_seed(0))
    scores = {"judge": FEATURES, "n": len(right), "accuracy": right.float().mean().item(), "interval": interval}
    scores["accuracy at 1/2 and 1/3 of the resolution"] = [rights[factor].float().mean().item() for factor in SOFTENED[1:]]
    write_json(
        result,
        scores | {"mean over classes": sum(classes.values()) / len(classes), "classes": classes, "versions": environment()},
    )
    print(json.dumps(scores, indent=2))


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    export_to: Annotated[Path, typer.Option("--export", help="Where the judge is written.")] = Path("src/srlvae/zoo/judge"),
    score: Annotated[Path | None, typer.Option(help="Measure the bundled judge and write this JSON instead.")] = None,
) -> None:
    if score:
        measure(images, score)
    else:
        export(images, export_to)


if __name__ == "__main__":
    typer.run(main)
