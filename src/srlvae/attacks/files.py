"""An attack on image files: any size, PNGs that keep the budget, a record beside each, a contact sheet."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.prepared import PreparedAttack
from srlvae.events import Listener
from srlvae.files import digest, write_json
from srlvae.images import SHEET, find_sources, image_size, pad_to_multiple, read_image, tile, write_image

# How many images the contact sheet shows, their largest side, and how much it magnifies differences.
ROWS, SIDE, GAIN = 8, 256, 10


def attack_files(
    attack: PreparedAttack,
    sources: list[Path],
    out: Path,
    *,
    batch: int = 8,
    resume: bool = True,
    listener: Listener | None = None,
) -> list[dict]:
    """Attack every image in `sources` (files or folders) and write `out`/<source's name>.png with a .json beside it.

    Neighbours of one size are attacked together, `batch` at a time, and half as many where memory runs out; what comes of an
    image is then the same but for the order of sums. An image whose PNG and record are there with the same settings is not
    made again, unless `resume` is off. Returns the records; the listener hears of `images` and of the `steps` of each batch.
    Raises InputError for unreadable images, two sources of one name, or sources in `out` itself.
    """
    paths, settings, listener = find_sources(sources, out), attack.settings(), listener or Listener()
    wanted = {path: {**settings, "source": str(path), "source_sha256": digest(path)} for path in paths}
    records = {path: found for path in paths if resume and (found := _found(out, path, wanted[path]))}
    before, told = set(records), set[Path]()

    def attack_all(size: int) -> None:
        for part in _batches(paths, size):
            missing = [path for path in part if path not in records]
            if missing:
                # All of them, so that a run which was cut off goes on with the batches that it had.
                records.update(_attack_batch(attack, part, missing, out, wanted, listener))
            told.update(part)
            listener.at("images", len(told), len(paths))

    _halving(attack_all, 1 if attack.request.attack.alone else batch)
    if before != set(paths) or not (out / SHEET).exists():
        _write_sheet(attack, paths[:ROWS], out)
    return [records[path] for path in paths]


def _halving(work: Callable[[int], None], size: int) -> None:
    """`work(size)`, and again with half the size where memory runs out."""
    while True:
        try:
            return work(size)
        except RuntimeError as error:
            if size == 1 or not should_reduce_batch_size(error):
                raise
            size //= 2


def _batches(paths: list[Path], size: int) -> Iterator[list[Path]]:
    """Runs of up to `size` neighbours with pictures of one size."""
    for _, group in itertools.groupby(paths, key=image_size):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))


def _attack_batch(
    attack: PreparedAttack, paths: list[Path], missing: list[Path], out: Path, wanted: dict[Path, dict], listener: Listener
) -> dict[Path, dict]:
    """Attack `paths`, write those of them that are `missing` and return their records."""
    vae, preset = attack.vae, attack.request.changed
    total = preset.ball.steps * preset.restarts

    def stepped(step: int, objective: float) -> None:
        listener.at("steps", step, total, f"objective {objective:.4g}")
        if listener.should_stop():
            raise KeyboardInterrupt

    trace = Trace(stepped)
    x = torch.stack([read_image(path) for path in paths]).to(vae.device)
    adversarial = attack.perturb(x, [path.stem for path in paths], trace)
    doubts, records = trace.doubts(len(x)), {}
    for path in missing:
        i, target = paths.index(path), _target(out, path)
        write_image(target, adversarial[i])
        back = read_image(target)[None].to(vae.device)
        effective = attack.size(back, x[i : i + 1]).item()
        if preset.ball.eps is not None and effective > preset.ball.eps + 1e-6:
            raise AssertionError(f"{target}: moved by {effective:g}, more than the budget of {preset.ball.eps:g}")
        with torch.no_grad():
            padded = (pad_to_multiple(image, vae.factor) for image in (back, x[i : i + 1]))
            shift = torch.sub(*(vae.mean(image) for image in padded)).square().mean().sqrt().item()
        measured = {"latent_shift": shift, "width": x.shape[-1], "height": x.shape[-2], "doubts": doubts[i]}
        shown = f"{effective:.4g} (ℓ2)" if preset.ball.norm == "l2" else f"{round(effective * 255)}/255"
        records[path] = {**wanted[path], "effective_eps": shown, "objective": trace.ends(i), **measured}
        write_json(target.with_suffix(".json"), records[path])
    return records


def _found(out: Path, path: Path, wanted: dict) -> dict | None:
    """The record of an image that is there with the same settings."""
    target = _target(out, path)
    record = target.with_suffix(".json")
    if not (target.exists() and record.exists()):
        return None
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return said if isinstance(said, dict) and wanted.items() <= said.items() else None


def _target(out: Path, path: Path) -> Path:
    return out / f"{path.stem}.png"


@torch.no_grad()
def _write_sheet(attack: PreparedAttack, paths: list[Path], out: Path) -> None:
    """The middle of each image as it is: clean, attacked, what was changed, and what the VAE makes of the attacked image."""
    rows = []
    for path in paths:
        x, adversarial = (_middle(read_image(file)) for file in (path, _target(out, path)))
        padded = pad_to_multiple(adversarial[None], attack.vae.factor).to(attack.vae.device)
        again = attack.vae.reconstruct(padded)[0, :, : x.shape[-2], : x.shape[-1]].cpu()
        rows.append([x, adversarial, 0.5 + GAIN * (adversarial - x), again])
    side = [max(row[0].shape[axis] for row in rows) for axis in (1, 2)]
    cells = [[F.pad(c, (0, side[1] - c.shape[2], 0, side[0] - c.shape[1]), value=1.0) for c in row] for row in rows]
    write_image(out / SHEET, tile(cells, ("clean", "attacked", f"difference × {GAIN}", "reconstruction")))


def _middle(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 _ _"]:
    """At most SIDE pixels of each side, not resized: resizing would take the perturbation away."""
    top, left = (max(0, (side - SIDE) // 2) for side in x.shape[1:])
    return x[:, top : top + SIDE, left : left + SIDE]
