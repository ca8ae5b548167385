"""The hardening benchmark: how robust and how faithful an encoder is, over the cost of the hardening run so far.

A run is a folder of `srlvae harden --snapshot-every`. The encoders that it kept on its way are measured as in the
reconstruction benchmark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srlvae.bench.cache import CACHE, Cache
from srlvae.bench.cells import CLEAN
from srlvae.bench.output import claim_output
from srlvae.bench.photographs import copies, load_photographs, shortage
from srlvae.bench.protocol import ReconstructionProtocol, as_written
from srlvae.bench.reconstructed import Reconstructions, attack_cells, check_attackable
from srlvae.bench.rows import Row, as_data
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.files import digest, write_json
from srlvae.images import LeftOut
from srlvae.locks import holds
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.vae import VAE
from srlvae.provenance import environment

RESULT = "hardening.json"
# What makes a run whose processor time is all that it costs; files that do not say are taken for it.
ALONE = {"device": "cpu", "processes": 1, "readers": 0}


@holds("out")
def hardening(
    original: VAE,
    runs: list[Path],
    folder: Path,
    out: Path,
    protocol: ReconstructionProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure every encoder that `runs` kept, on the photographs in `folder`. Writes rows to `out`, and returns the result.

    Rows are those of the reconstruction benchmark: clean, transfer and white-box. The condition of an encoder's row adds the
    name of its run (`run`), the `step`, the number of `images` trained on, and the `seconds` of processor time of its main
    process. Measures are kept in `out`/cache, so another run can be added later.

    Raises InputError for a run that kept no encoders or belongs to another VAE, for runs of one name, and for unusable images.
    """
    listener, run_names = listener or Listener(), Counter(run.resolve().name for run in runs)
    if again := [name for name, count in run_names.items() if count > 1]:
        raise InputError(f"two runs are called {again[0]}, and tables tell runs apart by the name of their folder: rename one")
    check_attackable(protocol, original)
    left_out = LeftOut(listener)
    wanted = max(protocol.images, protocol.clean_images)
    x, names = load_photographs(folder, wanted, protocol.size, protocol.seed, left_out)
    claim_output(out, "hardening", RESULT)
    left_out.write(out)
    kept = [(run.resolve().name, path) for run in runs for path in snapshots(run)]
    bench = Reconstructions(original, x, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    result: dict[str, Any] = {"benchmark": "hardening", "original": original.fingerprint(), "protocol": as_written(protocol)}
    result |= {"images": names, "versions": environment()}
    result |= {"doubts": [*shortage(len(x), wanted), *copies(bench.clean.keys), *cost_doubts(kept)]}
    on_original = [CLEAN, *attack_cells(protocol, "original")]
    result["rows"] = as_data(bench.row(cell, "none", original) for cell in on_original)
    for number, (name, path) in enumerate(kept, 1):
        rows = encoder_rows(bench, name, path)
        result["rows"] += as_data(rows)
        write_json(out / RESULT, result)
        listener.at("rows", number, len(kept), f"{name}, step {rows[0].condition['step']}")
    return result


def cost_doubts(kept: Sequence[tuple[str, Path]]) -> list[str]:
    """What speaks against comparing the costs of encoders: seconds are those of each run's main process alone."""
    made_by = {name: read_encoder(path).facts.get("made_by", ALONE) for name, path in dict(kept).items()}
    return [
        f"{name} was made on {how['device']} by {how['processes']} processes and {how['readers']} readers: its seconds are "
        "those of the main process on the CPU alone"
        for name, how in made_by.items()
        if how != ALONE
    ]


def encoder_rows(bench: Reconstructions, run: str, path: Path) -> list[Row]:
    """The rows of an encoder that the run of that name kept in the file `path`."""
    encoder = read_encoder(path)
    about: dict[str, Any] = {key: encoder.facts[key] for key in ("step", "images", "seconds")}
    about |= {"run": run, "encoder": digest(path)}
    hardened = apply_encoder(encoder, bench.original)
    cells = [CLEAN, *attack_cells(bench.protocol, "original", "hardened")]
    return [bench.row(cell, "hardened", hardened, **about) for cell in cells]


def snapshots(run: Path) -> list[Path]:
    """The encoder files that a run kept on its way, in the order of its steps.

    Raises InputError if there are none.
    """
    found = sorted((run / "snapshots").glob("step-*.safetensors"))
    if not found:
        raise InputError(f"{run} has kept no encoders; run: srlvae harden … --snapshot-every STEPS --out {run}")
    return found
