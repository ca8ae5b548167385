"""The leaderboard: one flat row a number, of any number of models, that anyone can add a model to.

After the habits of RobustBench (Croce et al. 2021, arXiv 2010.09670): a row says whose model it is, where it was published,
what the attacker knew, and which flags speak against believing the number.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srlvae.bench.editing import editing
from srlvae.bench.protocol import EditingProtocol, ReconstructionProtocol
from srlvae.bench.reconstruction import reconstruction
from srlvae.bench.rows import Row, read_rows
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import read_record, write_json
from srlvae.locks import holds
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE

LEADERBOARD = "leaderboard.json"
# By which network of a protocol a measure is made.
JUDGES = {"distance": "pairs", "kid": "sets", "frechet": "sets", "frechet_pca": "sets", "clip_i": "clip", "clip_t": "clip"}
# Images below which a Fréchet distance is mostly the noise of finite sets: in all dimensions, and in 32.
ENOUGH = {"frechet": 2048, "frechet_pca": 320}
# What of a protocol does not change a number, or is named beside it.
NAMED = ("pipeline", "hardened", "twin", "batch_size")


@dataclass(frozen=True)
class Entry:
    """About a model on the leaderboard.

    - model: its name, by which the leaderboard tells models apart.
    - who: who made it.
    - paper: where it was published, such as an arXiv number; blank for nowhere.
    """

    model: str
    who: str = ""
    paper: str = ""


@holds("out")
def bench_all(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocols: tuple[ReconstructionProtocol, EditingProtocol],
    entry: Entry,
    leaderboard: Path | None = None,
    listener: Listener | None = None,
) -> list[dict[str, Any]]:
    """Run the reconstruction and the editing benchmark on one model, and write its rows to a leaderboard.

    Both benchmarks have a folder in `out`, and go on where they were cut off. `leaderboard` is a file that may hold other
    models; by default it is one in `out`. Returns the rows of this model, or none in processes that do not write.

    Raises InputError for a file that is no leaderboard, before anything is measured.
    """
    board = leaderboard or out / LEADERBOARD
    check_board(board)
    if board.exists():  # before hours of work, not after them
        read_leaderboard(board)
    results = [
        reconstruction(pipeline.vae, hardened, folder, out / "reconstruction", protocols[0], listener),
        editing(pipeline, hardened, folder, out / "editing", protocols[1], listener),
    ]
    if not all(results):
        return []
    rows = [flat for result in results for flat in flat_rows(result, entry)]
    add_rows(board, rows)
    return rows


def flat_rows(result: dict[str, Any], entry: Entry) -> list[dict[str, Any]]:
    """The rows of a benchmark's result as flat rows of plain data, one for each number.

    `protocol` in them is a digest of the settings, and `photographs` one of the photographs. Only numbers that have the same
    ones compare.
    """
    protocol = result["protocol"]
    about = {**asdict(entry), "original": result["original"], "hardened": result["hardened"]}
    about |= {"benchmark": result["benchmark"], "pipeline": protocol.get("pipeline", ""), "protocol": digest_of(protocol)}
    about |= {"photographs": result.get("photographs", "")}
    found = []
    for row in read_rows(result["rows"]):
        said = {**row.condition, "access": row.access, "defence": row.defence}
        for measure, estimate in row.measures.items():
            judge, doubts = protocol.get(JUDGES.get(measure, ""), ""), [*result.get("doubts", []), *flags(row, measure)]
            found.append({**about, **said, "measure": measure, "judge": judge, **asdict(estimate), "flags": doubts})
    return found


def digest_of(protocol: dict[str, Any]) -> str:
    """Eight digits that are the same for protocols with the same settings, whatever models they name."""
    settings = {key: value for key, value in protocol.items() if key not in NAMED}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def flags(row: Row, measure: str) -> list[str]:
    """What speaks against believing a number of a row."""
    found = [f"{doubt} (photographs: {count})" for doubt, count in Counter(row.doubts).items()]
    return found + ([f"biased upwards at n = {row.n}"] if row.n < ENOUGH.get(measure, 0) else [])


def check_board(path: Path) -> None:
    """Raise InputError for a file that is not called .json: its page and tables, .html and .md, would take its place."""
    if path.suffix != ".json":
        raise InputError(f"{path} does not end in .json, as the file of a leaderboard has to")


def add_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add the rows of models to a leaderboard, in place of those that it has of the same models by the same measurements.

    Raises InputError for a file that is no leaderboard.
    """
    others = read_leaderboard(path) if path.exists() else []
    anew = {measurement_of(row) for row in rows}
    write_json(path, {"rows": [*(row for row in others if measurement_of(row) not in anew), *rows]})


def measurement_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row has in common with all others of one run of a benchmark, beginning with the model."""
    return row["model"], row["benchmark"], *(row.get(key, "") for key in ("pipeline", "protocol", "photographs"))


def read_leaderboard(path: Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard. Raises InputError for a file that is none."""
    rows, needed = read_record(path).get("rows"), {"model", "benchmark", "value"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= set(row) for row in rows):
        raise InputError(f"{path} is no leaderboard: its rows do not each have a model, a benchmark and a value; move it away")
    return rows
