"""What every attack does at its default setting, beside random noise of the same size, on an original pipeline.

    python recipes/attacks.py --images caltech101-128/test --score results/attacks-tiny-sd.json

It writes a row an attack, each as soon as it is done, and goes on where it was cut off; a picture of the edits beside them.
`recipes/tables.py` puts the rows into the docs.
`srlvae bench speed` says how fast attacks are.
"""

from __future__ import annotations

import json
import time
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from torch import Tensor

from captions import CONCEPTS, load_classes, word
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.files import write_json
from srlvae.images import tile, write_image
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import clip_i, load_clip
from srlvae.metrics.features import load_features
from srlvae.metrics.pairwise import feature_distance, psnr
from srlvae.models.edit_settings import GUIDANCE, STEPS, STRENGTH
from srlvae.models.load import load_pipeline
from srlvae.models.pipeline import Pipeline
from srlvae.provenance import environment
from srlvae.rng import generators

BATCH = 8
SHOWN = 4
# Of a curve over the steps.
POINTS = 20


def photographs(images: Path, count: int) -> tuple[Tensor, list[str]]:
    """One or more test photographs of every concept, in turn, and a prompt for each that names the next concept."""
    names, pixels, labels = load_classes(images, CONCEPTS)
    members = [torch.where(labels == c)[0] for c in range(len(names))]
    chosen = [(i % len(names), i // len(names)) for i in range(count)]
    x = torch.stack([pixels[members[c][k]] for c, k in chosen]).float() / 255
    return x, [f"a photo of a {word(names[(c + 1) % len(names)])}" for c, _ in chosen]


class Bench:
    """Clean photographs, their edits, and what attacked ones are compared in."""

    def __init__(self, pipeline: Pipeline, x: Tensor, prompts: list[str]):
        self.pipeline, self.x, self.prompts = pipeline, x, prompts
        self.features, self.clip = load_features("efficientnet-lite1"), load_clip("tiny-clip")
        self.edits = self.edit(x)

    def edit(self, x: Tensor) -> Tensor:
        draws, parts = generators(1, range(len(x))), [slice(i, i + BATCH) for i in range(0, len(x), BATCH)]
        return torch.cat([self.pipeline.edit(x[part], self.prompts[part], draws[part]) for part in parts])

    def noise(self, eps: float) -> Tensor:
        """Random signs of the budget's size: as strong as noise of an ℓ∞ radius gets."""
        draw = torch.Generator().manual_seed(0)
        return (self.x + eps * torch.randn(self.x.shape, generator=draw).sign()).clamp(0, 1)

    @torch.no_grad()
    def measure(self, adversarial: Tensor) -> tuple[dict, Tensor]:
        vae, x = self.pipeline.vae, self.x
        edits, clean = self.edit(adversarial), vae.mean(x)
        values = {
            "reconstruction_psnr": psnr(vae.reconstruct(adversarial), x),
            "latent_shift": (vae.mean(adversarial) - clean).square().mean((1, 2, 3)).sqrt() / clean.std(),
            "edit_psnr": psnr(edits, self.edits),
            f"edit_{self.features.name}_distance": feature_distance(
                self.features.columns(edits), self.features.columns(self.edits)
            ),
            f"edit_clip_i_{self.clip.name}": clip_i(self.clip, edits, self.edits),
        }
        row = {}
        for name, value in values.items():
            row[name] = value.mean().item()
            row[f"{name}_interval"] = bootstrap_interval(value, torch.Generator().manual_seed(0))
        return row, edits

    def attack(self, name: str) -> tuple[dict, Tensor]:
        attack, preset = prepare(Request(name), self.pipeline), ATTACKS[name].default
        size = 1 if ATTACKS[name].alone else BATCH
        started, found, traces = time.time(), [], []
        for i in track(range(0, len(self.x), size), name):
            traces.append(Trace())
            names = [str(number) for number in range(len(self.x))[i : i + size]]
            found.append(attack.perturb(self.x[i : i + size], names, traces[-1]))
        seconds = (time.time() - started) / len(self.x)
        said = {"preset": next(iter(ATTACKS[name].presets)), "eps_255": preset.ball.eps * 255, "steps": preset.ball.steps}
        ends = [sum(trace.values[k].mean().item() for trace in traces) / len(traces) for k in (0, -1)]
        return said | {"objective": ends, "curve": curve(traces), "seconds_an_image": seconds}, torch.cat(found)


def curve(traces: list[Trace]) -> list[list[float]]:
    """The objective, which is to be small, over the steps: its mean over all images and over the steps since the point before.

    Means over a few steps, as the objective of attacks that draw noise or timesteps jumps from step to step.
    """
    values = torch.cat([torch.stack(trace.values) for trace in traces], dim=1).mean(1)
    parts = values.tensor_split(min(POINTS, len(values)))
    return [[end, part.mean().item()] for end, part in zip(accumulate(map(len, parts)), parts, strict=True)]


def score(images: Path, result: Path, count: int, only: list[str]) -> None:
    x, prompts = photographs(images, count)
    bench = Bench(load_pipeline("tiny-sd"), x, prompts)
    edit = {"strength": STRENGTH, "steps": STEPS, "guidance": GUIDANCE}
    before = {"pipeline": "tiny-sd", "networks": bench.pipeline.fingerprint(), "n": count, "seed": 0, "edit": edit}
    for name in only or ATTACKS:
        scores = json.loads(result.read_text()) if result.exists() else {**before, "versions": environment(), "rows": {}}
        if not before.items() <= scores.items():
            raise SystemExit(f"{result} holds rows of other settings; move it away")
        if name in scores["rows"]:
            continue
        said, adversarial = bench.attack(name)
        attacked, edits = bench.measure(adversarial)
        noise, noisy = bench.measure(bench.noise(ATTACKS[name].default.ball.eps))
        row = {**said, "attacked": attacked, "noise": noise}
        shown = [list(images) for images in zip(x, bench.edits, noisy, adversarial, edits, strict=True)][:SHOWN]
        captions = ("clean", "edit of it", "edit, noise", "attacked", "edit of it")
        write_image(result.with_suffix("") / f"{name}.webp", tile(shown, captions))
        # Read again: another process may have written rows of other attacks.
        scores["rows"] |= json.loads(result.read_text())["rows"] if result.exists() else {}
        rows = {**scores["rows"], name: row}
        write_json(result, {**scores, "rows": {key: rows[key] for key in ATTACKS if key in rows}})
        print(name, json.dumps(row, indent=1), flush=True)


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    result: Annotated[Path, typer.Option("--score", help="The JSON that is written.")],
    count: Annotated[int, typer.Option("--n", help="Photographs that are attacked.")] = 8,
    only: Annotated[list[str] | None, typer.Option(help="These attacks alone; several processes may share them out.")] = None,
) -> None:
    score(images, result, count, only or [])


if __name__ == "__main__":
    typer.run(main)
