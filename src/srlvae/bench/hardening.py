"""How fast hardening gets there: robustness and fidelity of the encoders that runs kept on their way, over what they had cost.

A run is a folder of `srlvae harden --snapshot-every`. What is measured of each encoder is as in the reconstruction benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import Cell, ReconstructionProtocol
from srlvae.bench.reconstruction import Judge
from srlvae.errors import InputError
from srlvae.files import digest, write_json
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.runs import begun

RESULT = "hardening.json"
PROTOCOL = ReconstructionProtocol(eps=(15,), images=16, clean_images=16, features=("efficientnet-lite1",))


def hardening(
    original: VAE,
    runs: list[Path],
    folder: Path,
    out: Path,
    protocol: ReconstructionProtocol = PROTOCOL,
    done: Callable[[str, int, int], None] = lambda name, number, total: None,
) -> dict:
    """Measure every encoder that `runs` kept, on the photographs in `folder`; write rows to `out` and return what is written.

    Rows are those of the reconstruction benchmark, clean, transfer and white-box, with the run's name, the step, the images
    trained on and the processor seconds. Encoders that are done are kept in `out`. `done` is told of each.
    Raises: InputError for runs that kept none or belong to another VAE, unusable images, or an `out` of other settings.
    """
    x, names = load_photographs(folder, max(protocol.images, protocol.clean_images), protocol.size, protocol.seed)
    result = {
        "benchmark": "hardening",
        "original": original.fingerprint(),
        "protocol": json.loads(json.dumps(asdict(protocol))),
        "images": names,
        "versions": versions(),
        "rows": [],
    }
    result["rows"] = (begun(out, RESULT, result, free=("rows", "versions")) or result)["rows"]
    kept = [(run.resolve().name, path) for run in runs for path in snapshots(run)]
    judge = Judge({"original": original}, x, protocol)
    on_original = {cell: judge.attack(cell) for cell in _cells(protocol, "original")}
    if not result["rows"]:
        result["rows"] = [{"run": "original", **judge.row(c, "original", _access(c, ""), a)} for c, a in on_original.items()]
    for number, (name, path) in enumerate(kept, 1):
        encoder = read_encoder(path)
        facts = {"run": name, **{key: encoder.facts[key] for key in ("step", "images", "seconds")}, "encoder": digest(path)}
        if not any(row.get("encoder") == facts["encoder"] and row["run"] == name for row in result["rows"]):
            judge.vaes["hardened"] = apply_encoder(encoder, original)
            sets = on_original | {cell: judge.attack(cell) for cell in _cells(protocol, "hardened") if cell.made_on}
            result["rows"] += [{**facts, **judge.row(c, "hardened", _access(c, "hardened"), a)} for c, a in sets.items()]
            write_json(out / RESULT, result)
        done(f"{name}, step {facts['step']}", number, len(kept))
    return result


def snapshots(run: Path) -> list[Path]:
    """The encoder files that a run kept on its way, in the order of its steps. Raises InputError if there are none."""
    found = sorted((run / "snapshots").glob("step-*.safetensors"))
    if not found:
        raise InputError(f"{run} has kept no encoders on its way; run: srlvae harden … --snapshot-every STEPS --out {run}")
    return found


def _cells(protocol: ReconstructionProtocol, made_on: str) -> list[Cell]:
    return [Cell("none", 0, ""), *(Cell(attack, eps, made_on) for attack in protocol.attacks for eps in protocol.eps)]


def _access(cell: Cell, judged: str) -> str:
    return "any" if not cell.made_on else "white-box" if cell.made_on == (judged or "original") else "transfer"
