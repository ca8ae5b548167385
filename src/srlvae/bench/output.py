"""Whose the output folder of a benchmark is."""

from __future__ import annotations

from pathlib import Path

from srlvae.bench.cache import CACHE
from srlvae.files import write_json
from srlvae.runs import claim
from srlvae.training.processes import processes

RECORD = "benchmark.json"


def claim_output(out: Path, benchmark: str, result: str) -> None:
    """Make `out` the folder of a benchmark, whose result is the file `result`. Its protocol may be another one each time.

    Raises InputError if `out` holds another benchmark or something else.
    """
    if not processes().is_main_process:
        return
    run = {"benchmark": benchmark}
    # A folder from before there were such records, or a copied cache.
    if not (out / RECORD).exists() and ((out / result).is_file() or any((out / CACHE).glob("??/*.*"))):
        write_json(out / RECORD, run)
    claim(out, RECORD, run)
