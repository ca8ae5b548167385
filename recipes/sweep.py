"""Find the settings: hardening runs of equal compute, over the ablations and over single settings.

    python recipes/sweep.py --vae madebyollin/taesd --images caltech101-128/train --out runs/sweep \\
      --result results/sweep-taesd.json

Every row gets as many floating-point operations as `--steps` of the default, counted by PyTorch: processor time depends on
what else runs. Every 40th photograph of the folder is set apart and judged on, by EfficientNet-Lite1, which no row trains on.
A row that is done is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.harden import OBJECTIVES, HardenConfig, InnerAttack, Interrupted, harden, preset
from srlvae.harden.photographs import FolderPhotographs
from srlvae.harden.scores import scores
from srlvae.images import read_square
from srlvae.metrics.features import load_features
from srlvae.models.vae import VAE, load_vae
from srlvae.precision import bf16_pays
from srlvae.provenance import environment
from srlvae.report.sweep import sweep_table
from srlvae.report.tables import markdown


def ramped(config: HardenConfig) -> HardenConfig:
    """With radii that grow over half of the run, where clean latents are bounded."""
    objective = config.objective
    return dataclasses.replace(config, objective=dataclasses.replace(objective, ramp=0.5)) if objective.closeness else config


# The preset as it was before these rows: they spoke for radii that do not grow in runs this short.
BASE = ramped(preset("cpu"))
# Steps that tell what a step costs, after as many as there are batches that take turns: then they are replaced evenly.
TURNS, UNTIL = 8, 24


def objective(**changes) -> HardenConfig:
    return dataclasses.replace(BASE, objective=dataclasses.replace(BASE.objective, **changes))


def attacks(*found: InnerAttack, **changes) -> HardenConfig:
    return objective(attacks=found, **changes)


AWAY, PUSHED, PULLED = BASE.objective.attacks
TERMS = BASE.objective.terms

ROWS: dict[str, HardenConfig] = {
    "srl": BASE,
    # What chance does.
    "another seed": dataclasses.replace(BASE, seed=1),
    "closeness 0.1": objective(closeness=0.1),
    "closeness 0.2": objective(closeness=0.2),
    # Which attacks.
    "away alone": attacks(AWAY),
    "half transfer": attacks(AWAY, dataclasses.replace(PULLED, share=3.0)),
    "a third pulled, too": attacks(dataclasses.replace(AWAY, share=1.0), InnerAttack("target", steps=3, step_size=0.5), PULLED),
    "a seventh noise": attacks(AWAY, InnerAttack("noise"), PUSHED, PULLED),
    "within 8/255": attacks(*(dataclasses.replace(attack, eps=8 / 255) for attack in BASE.objective.attacks)),
    "no ramp of the radius": objective(ramp=0.0),
    "half of them weaker": objective(weaker=0.5),
    # How they are made: by fresh starts, as is usual, or going on.
    "fresh attacks of 1 step": attacks(dataclasses.replace(AWAY, steps=1, step_size=1.0), PUSHED, PULLED, turns=1, visits=1),
    "fresh attacks of 3 steps": attacks(dataclasses.replace(AWAY, steps=3, step_size=0.5), PUSHED, PULLED, turns=1, visits=1),
    "one batch at a time": objective(turns=1),
    "4 visits": objective(visits=4),
    "16 visits": objective(visits=16),
    # What is minimised.
    "latents alone": objective(terms=tuple(term for term in TERMS if term.measure == "shift")),
    "no errors of clean images": objective(terms=tuple(term for term in TERMS if term.on == "attacked")),
    # The ablations of the field.
    **{name: ramped(preset("cpu", name)) for name in OBJECTIVES if name != "srl"},
    "learning rate × 2": dataclasses.replace(BASE, learning_rate=2 * BASE.learning_rate),
    "learning rate / 2": dataclasses.replace(BASE, learning_rate=BASE.learning_rate / 2),
    "batches of 4": dataclasses.replace(BASE, batch_size=4),
    "batches of 16": dataclasses.replace(BASE, batch_size=16),
    "crops of 64, batches of 16": dataclasses.replace(BASE, resolution=64, batch_size=16),
}
# How many photographs it takes: the default on so many of them.
FEW = {f"{number} photographs": number for number in (16, 128, 1024)}


class Subset(FolderPhotographs):
    """The photographs of a folder that are, or are not, among every 40th; with `only`, so many of them, spread evenly."""

    def __init__(self, folder: Path, held_out: bool, only: int | None = None):
        super().__init__(folder, at_least=256)
        self.paths = [path for i, path in enumerate(self.paths) if (i % 40 == 0) == held_out]
        if only:
            self.paths = self.paths[:: len(self.paths) // only][:only]


def cost_of_step(vae: str, photographs: Subset, folder: Path, config: HardenConfig) -> float:
    """Floating-point operations of a step. Fewer batches than in a run take turns; each is replaced after as many visits."""
    counted: list[int] = []

    class Counting(Listener):
        def at(self, bar, number, total=None, note=""):
            counted.append(counter.get_total_flops())

        def should_stop(self):
            return len(counted) == UNTIL

    shutil.rmtree(folder, ignore_errors=True)  # of a row that was cut off
    turns = min(config.objective.turns, TURNS * config.batch_size)
    config = dataclasses.replace(config, steps=10**4, objective=dataclasses.replace(config.objective, turns=turns))
    try:
        with FlopCounterMode(display=False) as counter:
            harden(vae, photographs, folder, config, listener=Counting())
    except Interrupted:
        shutil.rmtree(folder)
    return (counted[-1] - counted[TURNS - 1]) / (UNTIL - TURNS)


def main(
    vae: Annotated[str, typer.Option(help="What to harden.")],
    images: Annotated[Path, typer.Option(help="Training photographs of 128 pixels, at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs.")],
    result: Annotated[Path, typer.Option(help="JSON of the rows.")],
    steps: Annotated[int, typer.Option(help="Steps of the default, whose operations every row gets.")] = 400,
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all by default.")] = None,
    attacked: Annotated[int, typer.Option(help="Photographs for the scores.")] = 32,
) -> None:
    x = torch.stack([read_square(path, 128) for path in Subset(images, held_out=True, only=attacked).paths])
    original, judge = load_vae(vae), load_features("efficientnet-lite1")

    def scored(hardened: VAE) -> dict:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays(torch.device("cpu"))):
            return scores(original, hardened, x, 0, judge)

    table = json.loads(result.read_text()) if result.exists() else {"rows": {}}
    table |= {"vae": original.fingerprint(), "steps": steps, "photographs": len(x), "versions": environment()}
    budget = steps * cost_of_step(vae, Subset(images, held_out=False), out / "probe", BASE)
    rows = ROWS | dict.fromkeys(FEW, BASE)
    for name, config in rows.items():
        if name in table["rows"] or (only and name not in only):
            continue
        training = Subset(images, held_out=False, only=FEW.get(name))
        folder = out / name.replace(" ", "_").replace("/", "-")
        afforded = round(budget / cost_of_step(vae, training, folder, config))
        config = dataclasses.replace(config, steps=afforded, held_out=8, checkpoint_every=afforded)
        found = scored(harden(vae, training, folder, config))
        table["original"] = found["original"]
        table["rows"][name] = {"config": dataclasses.asdict(config), "scores": found["hardened"]}
        table["rows"] = {name: table["rows"][name] for name in rows if name in table["rows"]}
        write_json(result, table)
        print(f"{name}: {afforded} steps", flush=True)
    print(markdown(sweep_table(table)))


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        raise SystemExit(str(error)) from error
