"""How good a pipeline like tiny-sd is: what the judge says of its images, how far they are from photographs, what edits do.

    python recipes/tiny_sd_score.py --images caltech101-128/train --score results/tiny-sd.json
    python recipes/tiny_sd_score.py --images caltech101-128/train --pipeline runs/taesd-sd --score results/taesd-sd.json

It writes two sheets beside the JSON, of samples and of edited photographs.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from torch import Tensor

from captions import CONCEPTS, load_classes, word
from srlvae.devices import default_device, fast_products
from srlvae.files import write_json
from srlvae.images import tile, write_image
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.features import load_features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.judge import Judge, load_judge
from srlvae.metrics.pairwise import psnr
from srlvae.models.load import load_pipeline
from srlvae.models.pipeline import Pipeline
from srlvae.provenance import environment
from srlvae.rng import generators

# Images of a concept: that the judge sees, and in each set of a Fréchet distance.
JUDGED, EACH = 16, 32


@torch.no_grad()
def measure(images: Path, name: str, result: Path) -> None:
    """How often the judge calls generated images their concept, how far they are from real ones, and what edits do.

    Fréchet distances are between sets of `EACH` images of every concept, to one and the same set of training photographs: of
    generated images, of reconstructions of other photographs, and of those photographs themselves, which is the floor. Edits
    are of one photograph a concept towards the next concept.
    """
    fast_products()
    pipeline, judge = load_pipeline(name, device=default_device()), load_judge()
    net = load_features("efficientnet-lite0").to(pipeline.device)
    names, pixels, labels = load_classes(images, CONCEPTS)
    halves = [
        torch.cat([pixels[labels == c][part] for c in range(len(names))]) for part in (slice(EACH), slice(EACH, 2 * EACH))
    ]
    other, real = (half.float() / 255 for half in halves)
    prompts = [f"a photo of a {word(name)}" for name in names]
    made = [pipeline.generate([prompt] * EACH, generators(0, range(EACH))).cpu() for prompt in track(prompts, "generating")]
    calls = torch.cat([judge.predict(y[:JUDGED]) for y in made]).unflatten(0, (len(names), JUDGED))
    right = (calls == torch.arange(len(names))[:, None]).float()

    def pooled(x: Tensor) -> Tensor:
        return torch.cat([net.pooled(part.to(pipeline.device)).cpu() for part in x.split(32)])

    sets = {
        "generated": torch.cat(made),
        "reconstructed by its VAE": torch.cat(
            [pipeline.vae.reconstruct(part.to(pipeline.device)).cpu() for part in other.split(32)]
        ),
        "other photographs": other,
    }
    scores = {
        "pipeline": name,
        "networks": pipeline.fingerprint(),
        "judged": {"n": right.numel(), "accuracy": right.mean().item()},
        "judged by concept": {word(name): row.mean().item() for name, row in zip(names, right, strict=True)},
        f"{net.name} Fréchet distance to photographs": {k: frechet_distance(pooled(x), pooled(real)) for k, x in sets.items()},
        "n": len(real),
        "seed": 0,
        "versions": environment(),
    }
    scores["judged"]["interval"] = bootstrap_interval(right.flatten(), torch.Generator().manual_seed(0))
    scores["edits"], edits = measure_edits(pipeline, judge, other[::EACH], [*prompts[1:], prompts[0]])
    write_json(result, scores)
    write_image(result.with_name(result.stem + "-samples.webp"), tile([list(y[:8]) for y in made]))
    write_image(result.with_name(result.stem + "-edits.webp"), edits)
    print(json.dumps(scores, indent=2, ensure_ascii=False))


def measure_edits(pipeline: Pipeline, judge: Judge, x: Tensor, prompts: list[str]) -> tuple[dict, Tensor]:
    """What the judge calls edits of a photograph of concept i towards concept i + 1, by strength, and a sheet of them."""
    wanted = (torch.arange(len(x)) + 1) % len(x)
    by_strength, columns = {}, [x]
    for strength in (0.3, 0.5, 0.7):
        y = pipeline.edit(x.to(pipeline.device), prompts, generators(0, range(len(x))), strength=strength).cpu()
        columns.append(y)
        calls = judge.predict(y)
        by_strength[str(strength)] = {
            "called the prompt's concept": (calls == wanted).float().mean().item(),
            "called the photograph's": (calls == torch.arange(len(x))).float().mean().item(),
            "PSNR to the photograph": psnr(y, x).mean().item(),
        }
    started = time.perf_counter()
    pipeline.edit(x[:1].to(pipeline.device), prompts[:1], generators(0, [0]), strength=1.0)
    cost = {"seconds an edit, all 25 steps": time.perf_counter() - started, "threads": torch.get_num_threads()}
    captions = ("photograph", "strength 0.3", "strength 0.5", "strength 0.7")
    return {"n": len(x), "strength": by_strength, **cost}, tile(list(zip(*columns, strict=True)), captions)


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    score: Annotated[Path, typer.Option(help="The JSON that is written.")],
    pipeline: Annotated[str, typer.Option(help="The pipeline's name or folder.")] = "tiny-sd",
) -> None:
    measure(images, pipeline, score)


if __name__ == "__main__":
    typer.run(main)
