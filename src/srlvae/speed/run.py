"""The benchmark of speed: works in turns, and the result that comes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from srlvae.bench.output import claim_output
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import as_data
from srlvae.config import MOST_IMAGES, MOST_PIXELS, MOST_STEPS, check_numbers
from srlvae.errors import unknown
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import Images, LeftOut
from srlvae.locks import holds
from srlvae.models.vae import load_vae
from srlvae.provenance import environment
from srlvae.speed.attacks import attack_works
from srlvae.speed.hardening import hardening_works
from srlvae.speed.metrics import metric_works
from srlvae.speed.rounds import Work, clock_of, rows_of_work
from srlvae.speed.scanning import scan_works
from srlvae.speed.starting import starting_works

RESULT = "speed.json"
PARTS = ("attacks", "hardening", "metrics", "scan", "start")


@dataclass(frozen=True)
class SpeedSettings:
    """What is timed, and how often.

    - `vae` and `hardened` are what `load_vae` takes; `hardened` is for scans alone.
    - `parts` are some of PARTS.
    - `rounds` is how often each way has a turn. With fewer than six, intervals are from the smallest to the largest time.
    - `images` squares of `size` pixels are attacked and scanned; attacks take `steps` steps.
    """

    vae: str = "tiny"
    hardened: str = "tiny-srl"
    parts: tuple[str, ...] = PARTS
    rounds: int = 6
    images: int = 8
    size: int = 128
    steps: int = 5

    def check(self) -> SpeedSettings:
        """Return self. Raises InputError for an unknown part or a number out of its range."""
        ranges = {"images": (2, MOST_IMAGES), "size": (16, MOST_PIXELS), "steps": (1, MOST_STEPS), "rounds": (1, MOST_STEPS)}
        check_numbers(self, "", **ranges)
        if strange := set(self.parts) - set(PARTS):
            raise unknown("unknown part", min(strange), PARTS)
        return self


@holds("out")
def speed(
    folder: Path, out: Path, settings: SpeedSettings, device: torch.device | str = "cpu", listener: Listener | None = None
) -> dict[str, Any]:
    """Time the works of every part on the photographs in `folder`. Writes rows to `out`/speed.json, and returns the result.

    On a CPU seconds are those of the processor.

    Raises InputError for wrong settings, unusable images and a command that fails.
    """
    settings.check()
    listener, device = listener or Listener(), torch.device(device)
    left_out = LeftOut(listener)
    x, _ = load_photographs(folder, settings.images, settings.size, 0, left_out)
    claim_output(out, "speed", RESULT)
    left_out.write(out)
    protocol = asdict(settings) | {"parts": list(settings.parts)}
    result: dict[str, Any] = {"benchmark": "speed", "protocol": protocol, "device": str(device)}
    result |= {"threads": torch.get_num_threads(), "skipped": [], "versions": environment(), "rows": []}
    with tempfile.TemporaryDirectory() as place:
        for part in settings.parts:
            listener.says(f"{part} …")
            for work in works(part, settings, x.to(device), Path(place), result["skipped"]):
                result["rows"] += as_data(rows_of_work(work, settings.rounds, clock_of(device)))
                write_json(out / RESULT, result)
                listener.at("works", len(result["rows"]), None, work.name)
                listener.check()
    return result


def works(part: str, settings: SpeedSettings, x: Images, place: Path, skipped: list[str]) -> Iterator[Work]:
    """What is timed in a part; why something is left out is added to `skipped`."""
    if part == "attacks":
        yield from attack_works(load_vae(settings.vae, x.device), x, settings.steps)
    if part == "hardening":
        yield from hardening_works(load_vae(settings.vae, x.device), x)
    if part == "metrics":
        found, missing = metric_works()
        skipped += missing
        yield from found
    if part == "scan":
        yield from scan_works(load_vae(settings.vae, x.device), load_vae(settings.hardened, x.device), x, place)
    if part == "start":
        yield from starting_works(settings.vae, x, place)
