"""What every attack does at its default setting, beside random noise of the same size, on an original pipeline.

    python recipes/attacks.py --images caltech101-128/test --score results/attacks-tiny-sd.json
    python recipes/attacks.py --images caltech101-128/test --speed results/attack-speed.json

The first writes a row an attack, each as soon as it is done, and goes on where it was cut off; a picture of the edits beside
them. The second times batches against loops, and PhotoGuard's encoder attack against a plain writing-out of its notebook,
alternating.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from torch import Tensor

from captions import CONCEPTS, load_classes, word
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
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
from srlvae.models.vae import load_vae
from srlvae.provenance import environment
from srlvae.report.tables import markdown
from srlvae.rng import generators

BATCH = 8
SHOWN = 4


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
        return said | {"objective": ends, "seconds_an_image": seconds}, torch.cat(found)


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
    (result.with_suffix("") / "table.md").write_text(table(json.loads(result.read_text())), encoding="utf-8")


def table(scores: dict) -> str:
    """A line an attack, in Markdown: after the attack, and in brackets after random signs of the same ε."""
    measures = {
        "reconstruction, dB": ("reconstruction_psnr", 1),
        "latent shift": ("latent_shift", 2),
        "Lite1 distance of the edit ↓": ("edit_efficientnet-lite1_distance", 2),
        "CLIP-I of the edit (tiny-clip)": ("edit_clip_i_tiny-clip", 3),
    }
    lines = []
    for name, row in scores["rows"].items():
        pairs = [f"{row['attacked'][key]:.{n}f} ({row['noise'][key]:.{n}f})" for key, n in measures.values()]
        lines.append([name, f"{row['eps_255']:.3g}/255", str(row["steps"]), *pairs])
    return markdown((["attack", "ε", "steps", *measures], lines))


def notebook(x: Tensor, vae, ball: Ball) -> Tensor:
    """PhotoGuard's encoder attack as its notebook writes it: one image on [-1,1], no best iterate, the default layout."""
    x, eps, step = x * 2 - 1, ball.eps, ball.step_size
    adversarial = (x + (torch.rand_like(x) * 2 - 1) * 2 * eps).clamp(-1, 1)
    for i in range(ball.steps):
        size = 2 * (step - (step - step / 100) / ball.steps * i)
        adversarial = adversarial.detach().requires_grad_()
        loss = vae.model.encode(adversarial).latent_dist.mean.norm()
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial - gradient.sign() * size
        adversarial = torch.maximum(torch.minimum(adversarial, x + 2 * eps), x - 2 * eps).clamp(-1, 1)
    return (adversarial.detach() + 1) / 2


def speed(images: Path, result: Path, rounds: int = 5, steps: int = 20) -> None:
    """Seconds for eight images of 128 pixels, medians of alternating rounds."""
    x, _ = photographs(images, BATCH)
    vae, ball = load_vae("tiny"), replace(ATTACKS["photoguard-encoder"].default.ball, steps=steps)

    def alone(name: str) -> Tensor:
        run = ATTACKS[name].run
        return torch.cat([run(x[i : i + 1], vae=vae, generators=generators(0, [i]), ball=ball) for i in range(BATCH)])

    def together(name: str) -> Tensor:
        return ATTACKS[name].run(x, vae=vae, generators=generators(0, range(BATCH)), ball=ball)

    ways = {
        "photoguard-encoder, batch of 8": lambda: together("photoguard-encoder"),
        "photoguard-encoder, one by one": lambda: alone("photoguard-encoder"),
        "its notebook, one by one": lambda: torch.cat([notebook(x[i : i + 1], vae, ball) for i in range(BATCH)]),
        "reconstruction, batch of 8": lambda: together("reconstruction"),
        "reconstruction, one by one": lambda: alone("reconstruction"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    norms, names = {}, ("photoguard-encoder", "reconstruction")
    for _ in track(range(rounds), "rounds"):
        for way, run in ways.items():
            started = time.perf_counter()
            adversarial = run()
            seconds[way].append(time.perf_counter() - started)
            norms[way] = vae.mean(adversarial).flatten(1).norm(dim=1).mean().item()
    median = {way: statistics.median(times) for way, times in seconds.items()}
    scores = {
        "vae": "tiny", "images": BATCH, "size": 128, "steps": steps, "threads": torch.get_num_threads(), "rounds": rounds,
        "seconds": median,
        "batch over loop": {name: median[f"{name}, one by one"] / median[f"{name}, batch of 8"] for name in names},
        "batch over notebook": median["its notebook, one by one"] / median["photoguard-encoder, batch of 8"],
        "norm of the latent afterwards": {way: norm for way, norm in norms.items() if "photoguard" in way or "notebook" in way},
        "versions": environment(),
    }  # fmt: skip
    write_json(result, scores)
    print(json.dumps(scores, indent=2))


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs.")],
    score_to: Annotated[Path | None, typer.Option("--score", help="Measure what the attacks do and write this JSON.")] = None,
    speed_to: Annotated[Path | None, typer.Option("--speed", help="Measure how fast they are and write this JSON.")] = None,
    count: Annotated[int, typer.Option("--n", help="Photographs that are attacked.")] = 8,
    only: Annotated[list[str] | None, typer.Option(help="These attacks alone; several processes may share them out.")] = None,
) -> None:
    if score_to:
        score(images, score_to, count, only or [])
    if speed_to:
        speed(images, speed_to)


if __name__ == "__main__":
    typer.run(main)
