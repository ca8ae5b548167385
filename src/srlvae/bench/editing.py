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
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import transfer_doubts
from srlvae.bench.cache import Store, key_of
from srlvae.bench.compare import Comparison
from srlvae.bench.edited import Editing, Set
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import Cell, EditingProtocol
from srlvae.files import write_json
from srlvae.images import tile, write_image
from srlvae.metrics.clip import load_clip
from srlvae.metrics.features import load_features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import versions

RESULT, SHEETS, CACHE = "editing.json", "sheets", "cache"
CLEAN = Cell("none", 0, "")
# Photographs on a contact sheet.
SHOWN = 6


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
