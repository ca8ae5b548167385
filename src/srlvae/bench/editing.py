"""Does editing work again? Edits of attacked images under each defence, against the original VAE's edits of the clean ones.

Every comparison has the same photographs, prompts and noise on both sides. Defences: `none` (the original VAE), `hardened`, and
purifiers before the original VAE. Attacks made on the original VAE are `transfer` to the hardened one, as in the paper; those
made on the hardened one are `white-box`. Fréchet distances of few images are biased upwards: the floor has those of sets that
are known to be alike, at the same n. KID is unbiased: pairs made of one photograph are left out of it.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import transfer_doubts
from srlvae.attacks.request import Job, choose_setting
from srlvae.bench.cache import Store, key_of, key_of_image
from srlvae.bench.compare import Comparison
from srlvae.bench.perturbed import perturbed
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import Cell, EditingProtocol, PurifierPlan
from srlvae.bench.purified import Purification
from srlvae.files import write_json
from srlvae.images import tile, to_levels, write_image
from srlvae.metrics.clip import load_clip
from srlvae.metrics.features import load_features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.purify.cost import measure_cost
from srlvae.rng import named_generator, uniform_like

RESULT, SHEETS, CACHE = "editing.json", "sheets", "cache"
CLEAN = Cell("none", 0, "")
# Photographs on a contact sheet, and those whose purification is timed.
SHOWN, TIMED = 6, 2


@dataclass(frozen=True)
class Set:
    """Images and the keys of what they were made from, one for each photograph or, of edits, for each photograph and prompt."""

    keys: list[str]
    images: Tensor


class Editing:
    """The networks of a protocol around both VAEs, the photographs, and everything that is made of them."""

    def __init__(self, pipeline: Pipeline, hardened: VAE, x: Tensor, protocol: EditingProtocol, store: Store):
        self.protocol, self.store = protocol, store
        pipeline = pipeline.without_safety_checker()
        self.pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
        self.networks = pipeline.fingerprint()
        self.vaes = {name: pipe.vae.fingerprint() for name, pipe in self.pipelines.items()}
        self.purify = Purification(pipeline)
        self.clean = Set([key_of_image(image) for image in x], x)
        each, prompts = protocol.prompts_an_image, protocol.prompts
        self.of = [i for i in range(len(x)) for _ in range(each)]
        self.prompts = [prompts[k % len(prompts)] for k in range(len(self.of))]

    def attacked(self, cell: Cell) -> Set:
        """The photographs under an attack, whole grey levels within the budget."""
        if cell.attack == "none":
            return self.clean
        if cell.attack == "noise":
            keys = [key_of("noise", eps=cell.eps, seed=self.protocol.seed, source=key) for key in self.clean.keys]
            return Set(keys, self.store.images(keys, lambda part: (self._noisy(part, cell.eps), [None] * len(part))))
        return Set(*perturbed(self._job(cell), self.clean.images, self.clean.keys, self.store))

    def _job(self, cell: Cell) -> Job:
        plan = next(plan for plan in self.protocol.attacks if plan.name == cell.attack)
        setting = choose_setting(cell.attack, eps=cell.eps / 255, steps=plan.steps or None)
        return Job(cell.attack, ATTACKS[cell.attack], setting, self.pipelines[cell.made_on], self.protocol.seed)

    def _noisy(self, part: list[int], eps: int) -> Tensor:
        x = self.clean.images[part]
        draws = [named_generator(self.protocol.seed, self.clean.keys[i]) for i in part]
        return to_levels((x + eps / 255 * uniform_like(x, draws)).clamp(0, 1)).float() / 255

    def purified(self, plan: PurifierPlan, given: Set) -> Set:
        return Set(*self.purify.keep(plan, given.images, given.keys, self.clean.keys, self.protocol.seed, self.store))

    def edits(self, given: Set, vae: str = "original", seed: int | None = None) -> Set:
        """The edits of all photographs with all of their prompts; the noise is the photograph's and the prompt's own."""
        protocol, pipeline = self.protocol, self.pipelines[vae]
        settings: dict[str, Any] = {"strength": protocol.strength, "steps": protocol.steps, "guidance": protocol.guidance}
        seed = protocol.seed if seed is None else seed
        made_by = {**settings, "seed": seed, "vae": self.vaes[vae], "networks": self.networks, "sampling": pipeline.settings()}
        keys = [key_of("edited", **made_by, prompt=p, source=given.keys[i]) for i, p in zip(self.of, self.prompts, strict=True)]

        def make(part: list[int]) -> tuple[Tensor, list[Any]]:
            x, prompts = given.images[[self.of[k] for k in part]], [self.prompts[k] for k in part]
            names = [self.clean.keys[self.of[k]] + self.prompts[k] for k in part]
            draws = [named_generator(seed, name, pipeline.device) for name in names]
            return pipeline.edit(x.to(pipeline.device), prompts, draws, **settings), [None] * len(part)

        return Set(keys, self.store.images(keys, make))

    def under(self, defence: str, given: Set) -> Set:
        """The edits of a set under a defence."""
        if defence in ("none", "hardened"):
            return self.edits(given, "original" if defence == "none" else "hardened")
        plan = next(plan for plan in self.protocol.purifiers if plan.name == defence)
        return self.edits(self.purified(plan, given))

    def timed_with(self) -> dict[str, Any]:
        """What measured costs depend on, as JSON gives it back."""
        plans = [asdict(plan) for plan in self.protocol.purifiers]
        where = {"machine": versions()["machine"], "device": str(self.pipelines["original"].device)}
        return json.loads(json.dumps({"purifiers": plans, **where, **self.vaes, "networks": self.networks}))

    def costs(self) -> dict[str, dict]:
        """What each purifier takes for an image, alone."""
        pipe, seed, found = self.pipelines["original"].pipe, self.protocol.seed, {}
        x, names = self.clean.images[:TIMED].to(pipe.device), self.clean.keys[:TIMED]
        for plan in self.protocol.purifiers:
            networks = {"encoder": pipe.vae.encoder, "decoder": pipe.vae.decoder, "unet": pipe.unet}
            if plan.source:
                networks |= {"pixel unet": self.purify.model_of(plan)[0].unet}
            run, brief = partial(self.purify.run, plan, seed=seed), partial(self.purify.run, plan, seed=seed, brief=True)
            _, cost = measure_cost(partial(run, names=names), partial(brief, names=names[:1]), x, networks)
            found[plan.name] = asdict(cost)
        return found


def attackable(protocol: EditingProtocol, vae: VAE) -> EditingProtocol:
    """The protocol without the attacks on a posterior where there is none, which a warning names."""
    if vae.has_posterior:
        return protocol
    left_out = [plan.name for plan in protocol.attacks if ATTACKS[plan.name].posterior]
    if left_out:
        warnings.warn(f"left out, as this VAE has no posterior: {', '.join(left_out)}", stacklevel=2)
    return dataclasses.replace(protocol, attacks=tuple(plan for plan in protocol.attacks if plan.name not in left_out))


def plan_of(protocol: EditingProtocol) -> list[tuple[Cell, str]]:
    """Every set of images with every defence that it is tried under, in the order in which they are run."""
    attacks = [(Cell(plan.name, eps, "original"), plan) for plan in protocol.attacks for eps in plan.eps]
    budgets = sorted({cell.eps for cell, _ in attacks})
    found = [
        (cell, defence) for cell in [CLEAN, *(Cell("noise", eps, "") for eps in budgets)] for defence in ("none", "hardened")
    ]
    for cell, plan in attacks:
        found += [(cell, "none"), (cell, "hardened")]
        found += [(Cell(cell.attack, cell.eps, "hardened"), "hardened")] if plan.white_box else []
    cells = [CLEAN, *(cell for cell, _ in attacks)]
    return found + [(cell, p.name) for p in protocol.purifiers for cell in cells if p.takes(cell.attack, cell.eps)]


def editing(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: EditingProtocol,
    done: Callable[[Cell, str, int, int], None] = lambda cell, defence, number, total: None,
    told: Callable[[int], None] = lambda count: None,
) -> dict:
    """Run the benchmark on the photographs in `folder`; write rows and contact sheets to `out` and return what is written.

    Images are kept in `out`/cache by what they were made from, and rows with them: a run that was cut off, or another protocol,
    makes only what is missing. Of processes that run together the main one measures and writes; the others return {}.
    done: told of each row; told: of how many images were made. `seconds` in the result: of this run, which took over what
    others had made.
    Raises: InputError for unusable images.
    """
    started = time.perf_counter()
    protocol = attackable(protocol, pipeline.vae)
    x, names = load_photographs(folder, protocol.images, pipeline.size, protocol.seed)
    bench = Editing(pipeline, hardened, x, protocol, Store(out / CACHE, protocol.batch_size, told))
    plan = plan_of(protocol)
    reference, other = bench.edits(bench.clean), bench.edits(bench.clean, seed=protocol.seed + 1)
    if not PartialState().is_main_process:
        for number, (cell, defence) in enumerate(plan, 1):
            bench.under(defence, bench.attacked(cell))
            done(cell, defence, number, len(plan))
        return {}
    clip = load_clip(protocol.clip, pipeline.device)
    compare = Comparison(
        [load_features(name) for name in protocol.features],
        clip,
        reference.images,
        bench.prompts,
        bench.of,
        protocol.batch_size,
        protocol.seed,
        pipeline.device,
    )
    before = json.loads((out / RESULT).read_text(encoding="utf-8")) if (out / RESULT).exists() else {}
    measured_with = {"reference": reference.keys, "features": protocol.features, "clip": clip.fingerprint()}
    known = {row["key"]: row["measured"] for row in before.get("rows", [])}
    result = {
        "benchmark": "editing",
        **bench.vaes,
        "networks": bench.networks,
        "protocol": json.loads(json.dumps(asdict(protocol))),
        "images": names,
        "versions": versions(),
        "floor": compare.floor(other.images),
        "reconstruction": {name: compare.reconstruction(pipe.vae, x) for name, pipe in bench.pipelines.items()},
        "costs": costs if (costs := before.get("costs", {})).get("of") == bench.timed_with() else {},
        "rows": [],
    }
    for number, (cell, defence) in enumerate(plan, 1):
        given = bench.attacked(cell)
        edits = bench.under(defence, given)
        key = key_of("measured", edits=edits.keys, **measured_with)
        measured = known.get(key) or compare.row(edits.images)
        doubts = [doubt for note in bench.store.notes(given.keys) if note for doubt in note["doubts"]]
        made = {"defence": defence, "setting": setting_of(cell, defence), "n": len(edits.keys), "doubts": doubts}
        result["rows"].append({**asdict(cell), **made, "measured": measured, "key": key})
        write_json(out / RESULT, result)
        done(cell, defence, number, len(plan))
    _finish(bench, result, out, reference)
    result["seconds"] = time.perf_counter() - started
    write_json(out / RESULT, result)
    return result


def setting_of(cell: Cell, defence: str) -> str:
    if cell.made_on == "":
        return "any"
    own = "original" if defence == "none" else "hardened" if defence == "hardened" else ""
    return "white-box" if cell.made_on == own else "transfer"


def _finish(bench: Editing, result: dict, out: Path, reference: Set) -> None:
    """Doubts that rows raise together, costs, and a contact sheet an attack."""
    result["doubts"] = white_box_doubts(result["rows"])
    if not result["costs"]:
        vaes = {name: pipe.vae for name, pipe in bench.pipelines.items()}
        encoder = encoder_seconds(vaes, bench.clean.images)
        result["costs"] = {"of": bench.timed_with(), "purifiers": bench.costs(), "encoder": encoder}
    for plan in bench.protocol.attacks:
        write_sheet(bench, Cell(plan.name, max(plan.eps), "original"), reference, out / SHEETS)


def white_box_doubts(rows: list[dict]) -> list[str]:
    """Where attacks made on the original VAE hurt the hardened one more than those made on itself."""
    found = []
    hardened = {(r["attack"], r["eps"], r["setting"]): r for r in rows if r["defence"] == "hardened"}
    for (attack, eps, setting), row in hardened.items():
        if setting == "white-box" and (transfer := hardened.get((attack, eps, "transfer"))):
            said = transfer_doubts(torch.tensor(transfer["measured"]["distances"]), torch.tensor(row["measured"]["distances"]))
            found += [f"{attack} at {eps}/255: {doubt}" for doubt in said]
    return found


@torch.no_grad()
def encoder_seconds(vaes: dict[str, VAE], x: Tensor, rounds: int = 7) -> dict[str, float]:
    """Median seconds an image of each VAE's encoder, in alternating rounds after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in vaes}
    for _ in range(rounds + 1):
        for name, vae in vaes.items():
            part = x[:8].to(vae.device)
            started = time.perf_counter()
            vae.mean(part).cpu()
            seconds[name].append((time.perf_counter() - started) / len(part))
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def write_sheet(bench: Editing, cell: Cell, reference: Set, folder: Path) -> None:
    """Photographs and their edits, clean and attacked, under every defence that the attack was tried with."""
    shown = [bench.of.index(i) for i in range(min(SHOWN, len(bench.clean.images)))]
    given = bench.attacked(cell)
    defences = ["none", "hardened"] + [p.name for p in bench.protocol.purifiers if p.takes(cell.attack, cell.eps)]
    edits = [bench.under(defence, given).images[shown] for defence in defences]
    count = len(shown)
    columns = [bench.clean.images[:count], reference.images[shown], given.images[:count], *edits]
    captions = ("clean", "its edit", "attacked", *("no defence" if d == "none" else d for d in defences))
    write_image(folder / f"{cell.attack}.webp", tile(list(zip(*columns, strict=True)), captions))
