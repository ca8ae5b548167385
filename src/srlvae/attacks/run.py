"""An attack on image files: any size, PNGs that keep the budget, a record beside each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch

from srlvae.attacks import ATTACKS
from srlvae.errors import InputError
from srlvae.files import write_json
from srlvae.images import check_eps, find_sources, pad_to_multiple, read_image, write_image
from srlvae.rng import named_generator
from srlvae.vae import VAE


def attack_files(
    name: str,
    sources: list[Path],
    out: Path,
    vae: VAE,
    *,
    eps: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    done: Callable[[dict, int, int], None] = lambda record, number, total: None,
) -> list[dict]:
    """Attack every image in `sources` (files or folders) and write `out`/<source's name>.png with a .json beside it.

    An image whose PNG and record are there with the same settings is not made again. Returns the records; `done`
    is told of each.
    Raises: InputError for an unknown attack, a bad budget, unreadable images, two sources of one name,
    or sources in `out` itself.
    """
    if name not in ATTACKS:
        raise InputError(f"unknown attack {name!r}; choose one of {', '.join(ATTACKS)}")
    entry = ATTACKS[name]
    eps = entry.eps if eps is None else check_eps(eps)
    if 0 < eps * 255 < 1 - 1e-6:
        raise InputError(f"eps is {eps * 255:g}/255; the levels of a PNG cannot change by less than 1/255")
    steps = entry.steps if steps is None else steps
    # The published ratio of step to radius, at any radius.
    step_size = entry.step_size * eps / entry.eps
    settings = {"attack": name, "vae": vae.fingerprint(), "eps": eps, "steps": steps, "step_size": step_size, "seed": seed}
    paths = find_sources(sources, out)
    records = []
    for number, path in enumerate(paths, 1):
        target = out / f"{path.stem}.png"
        record_path = target.with_suffix(".json")
        wanted = {**settings, "source": str(path)}
        record = json.loads(record_path.read_text()) if record_path.exists() and target.exists() else {}
        if not wanted.items() <= record.items():
            draws = named_generator(seed, path.stem, vae.device)
            record = wanted | _attack_file(path, target, vae, name, eps, steps, step_size, draws)
            write_json(record_path, record)
        records.append(record)
        done(record, number, len(paths))
    return records


def _attack_file(
    path: Path, target: Path, vae: VAE, name: str, eps: float, steps: int, step_size: float, draws: torch.Generator
) -> dict:
    """Write the attacked image and return what was measured on the file as read back."""
    x = read_image(path)[None].to(vae.device)
    height, width = x.shape[-2:]
    padded = pad_to_multiple(x, vae.factor)
    # A budget between two grey levels would be rounded up on the file.
    whole = math.floor(eps * 255 + 1e-6) / 255
    adversarial = ATTACKS[name].run(padded, vae=vae, eps=whole, steps=steps, step_size=step_size, generators=[draws])
    write_image(target, adversarial[0, :, :height, :width])
    back = read_image(target)[None].to(vae.device)
    effective = round((back - x).abs().max().item() * 255)
    if effective > eps * 255 + 1e-6:
        raise AssertionError(f"{target}: differs by {effective}/255 from its source, more than the budget of {eps * 255:g}/255")
    with torch.no_grad():
        shift = (vae.mean(pad_to_multiple(back, vae.factor)) - vae.mean(padded)).square().mean().sqrt().item()
    return {"effective_eps": f"{effective}/255", "latent_shift": shift, "width": width, "height": height}
