"""An attack on image files: any size, PNGs that keep the budget, a record beside each, a contact sheet."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks import ATTACKS, Attack, Images, Preset
from srlvae.attacks.doubts import Trace
from srlvae.attacks.expectation import SAMPLING, VIEWS
from srlvae.errors import InputError
from srlvae.files import write_json
from srlvae.images import (
    SHEET,
    check_eps,
    find_sources,
    image_size,
    open_rgb,
    pad_to_multiple,
    read_image,
    tile,
    to_levels,
    to_tensor,
    write_image,
)
from srlvae.metrics.features import Features, load_features
from srlvae.pipeline import Pipeline
from srlvae.rng import Generators, named_generator
from srlvae.vae import VAE

# How many images the contact sheet shows, their largest side, and how much it magnifies differences.
ROWS, SIDE, GAIN = 8, 256, 10

# Told of each finished image: its record, its number, how many there are.
Done = Callable[[dict, int, int], None]
# Told of each step of a batch: its number and the mean objective.
Stepped = Callable[[int, float], None]


@dataclass(frozen=True)
class Job:
    """An attack in one setting on one model: what every file of a run has in common."""

    name: str
    attack: Attack
    setting: Preset
    model: VAE | Pipeline
    seed: int
    target: Path | None
    mask: Path | None
    through: str | None
    draws: int
    features: Features | None

    @property
    def vae(self) -> VAE:
        return self.model.vae if isinstance(self.model, Pipeline) else self.model

    @property
    def norm(self) -> str:
        return self.setting.options.get("norm", "linf")

    def settings(self) -> dict[str, Any]:
        """What the files depend on, as it is written beside them."""
        setting = self.setting
        said = {"attack": self.name, "vae": self.vae.fingerprint(), "eps": setting.eps, "steps": setting.steps}
        said |= {"step_size": setting.step_size, "options": dict(setting.options), "seed": self.seed}
        if self.attack.needs == "pipeline" and isinstance(self.model, Pipeline):
            said |= {"pipeline": str(self.model.pipe.config.get("_name_or_path")), "networks": self.model.fingerprint()}
        if self.through:
            said |= {"through": self.through, "draws": self.draws}
        if self.features:
            said["features"] = self.features.name
        pictures = {key: path for key, path in (("target", self.target), ("mask", self.mask)) if path}
        return said | {key: f"{path} {_digest(path)}" for key, path in pictures.items()}

    def run(self, x: Images, names: Sequence[str], watch: Trace) -> Images:
        """Attacked images of whole grey levels, within the budget."""
        setting, factor = self.setting, self.vae.factor
        draws = [named_generator(self.seed, name, x.device) for name in names]
        model = {"vae": self.vae} if self.attack.needs == "vae" else {"pipeline": self.model}
        adversarial = self.attack.run(
            pad_to_multiple(x, factor),
            **model,
            # A budget between two grey levels would be rounded up on the file.
            eps=math.floor(setting.eps * 255 + 1e-6) / 255 if self.norm == "linf" else setting.eps,
            steps=setting.steps,
            step_size=setting.step_size,
            generators=draws,
            watch=watch,
            **{**setting.options, **self._through(draws), **self._pictures(x)},
        )
        return self._on_levels(adversarial[..., : x.shape[-2], : x.shape[-1]], x)

    def _through(self, draws: Generators) -> dict[str, Any]:
        found: dict[str, Any] = {"features": self.features} if self.features else {}
        if self.through == SAMPLING:
            return found | {"sampled": True, "repeats": self.draws}
        return found | ({"view": VIEWS[self.through](draws), "repeats": self.draws} if self.through else {})

    def _pictures(self, x: Images) -> dict[str, Tensor]:
        """Target and mask in the size of the images, padded like them."""
        found = {}
        if self.target:
            found["target"] = pad_to_multiple(_fitted(self.target, x), self.vae.factor)
        if self.mask:
            check_shape(self.mask, x)
        if self.mask or x.shape[-2] % self.vae.factor or x.shape[-1] % self.vae.factor:
            mask = (_fitted(self.mask, x)[:, :1] > 0.5).to(x) if self.mask else torch.ones_like(x[:1, :1])
            # What is padded is cut off again: nothing may be hidden there.
            height, width = -x.shape[-2] % self.vae.factor, -x.shape[-1] % self.vae.factor
            found["mask"] = F.pad(mask, (0, width, 0, height)).repeat(len(x), 1, 1, 1)
        return found

    def _on_levels(self, adversarial: Images, x: Images) -> Images:
        """The nearest grey levels; where rounding has left an ℓ2 ball, those of a smaller perturbation."""
        rounded = to_levels(adversarial).float() / 255
        while self.norm == "l2" and bool((outside := self.size(rounded, x) > self.setting.eps).any()):
            shorter = torch.where(outside, 0.98, 1.0)[:, None, None, None]
            adversarial = x + shorter * (adversarial - x)
            rounded = to_levels(adversarial).float() / 255
        return rounded

    def size(self, adversarial: Images, x: Images) -> Float[Tensor, " b"]:
        """How large the perturbations are, in the norm of the budget."""
        delta = (adversarial - x).flatten(1)
        return delta.norm(dim=1) if self.norm == "l2" else delta.abs().amax(1)


def attack_files(
    name: str,
    sources: list[Path],
    out: Path,
    model: VAE | Pipeline,
    *,
    preset: str | None = None,
    eps: float | None = None,
    steps: int | None = None,
    prompt: str | None = None,
    target: Path | None = None,
    mask: Path | None = None,
    through: str | None = None,
    draws: int = 4,
    restarts: int | None = None,
    features: str | None = None,
    seed: int = 0,
    batch: int = 8,
    resume: bool = True,
    done: Done = lambda record, number, total: None,
    stepped: Stepped = lambda step, objective: None,
) -> list[dict]:
    """Attack every image in `sources` (files or folders) and write `out`/<source's name>.png with a .json beside it.

    Neighbours of one size are attacked together, `batch` at a time, and half as many where memory runs out; what comes of an
    image is then the same but for the order of sums. An image whose PNG and record are there with the same settings is not
    made again, unless `resume` is off. preset, eps, steps, prompt, restarts: in place of the attack's own. target, mask:
    picture files; the mask is white where pixels may change. through, draws: a view in VIEWS, or sampled latents, seen `draws`
    times a step. features: the network of a perceptual budget. Returns the records; `done` is told of each, `stepped` of each
    step.
    Raises: InputError for an unknown attack, preset or view, an option that the attack has not, a bad budget, unreadable
    images, two sources of one name, or sources in `out` itself.
    """
    given = {"prompt": prompt, "target": target, "mask": mask, "through": through, "features": features}
    setting = choose_setting(name, preset, eps=eps, steps=steps, restarts=restarts, **given)
    if ATTACKS[name].needs == "pipeline" and not isinstance(model, Pipeline):
        raise InputError(f"{name} attacks a whole pipeline; give one with --pipeline")
    network = load_features(features).to(model.device) if features else None
    job = Job(name, ATTACKS[name], setting, model, seed, target, mask, through, draws, network)
    paths, settings = find_sources(sources, out), job.settings()
    wanted = {path: {**settings, "source": str(path), "source_sha256": _digest(path)} for path in paths}
    records = {path: found for path in paths if resume and (found := _found(out, path, wanted[path]))}
    told: set[Path] = set()

    def attack_all(size: int) -> None:
        for part in _batches(paths, size):
            missing = [path for path in part if path not in records]
            if missing:
                # All of them, so that a run which was cut off goes on with the batches that it had.
                records.update(_attack_batch(job, part, missing, out, wanted, stepped))
            for path in part:
                if path not in told:
                    told.add(path)
                    done(records[path], len(told), len(paths))

    before = set(records)
    _halving(attack_all, 1 if job.attack.alone else batch)
    if before != set(paths) or not (out / SHEET).exists():
        _write_sheet(job, paths[:ROWS], out)
    return [records[path] for path in paths]


def choose_setting(
    name: str,
    preset: str | None = None,
    *,
    eps: float | None = None,
    steps: int | None = None,
    prompt: str | None = None,
    target: Path | None = None,
    mask: Path | None = None,
    through: str | None = None,
    features: str | None = None,
    restarts: int | None = None,
) -> Preset:
    """The preset called `preset`, or the attack's first, changed by what is given; InputError as `attack_files`."""
    if name not in ATTACKS:
        raise InputError(f"unknown attack {name!r}; choose one of {', '.join(ATTACKS)}")
    attack = ATTACKS[name]
    if preset is not None and preset not in attack.presets:
        raise InputError(f"{name} has no preset {preset!r}; choose one of {', '.join(attack.presets)}")
    setting = attack.presets[preset] if preset else attack.default
    sampled = True if through == SAMPLING else None
    for option, value in (("prompt", prompt), ("target", target), ("features", features), ("sampled", sampled)):
        if value is not None and not attack.takes(option):
            raise InputError(f"{name} takes no {option}" if option != "sampled" else f"{name} cannot go through {SAMPLING}")
    for option, value in (("target", target), ("mask", mask)):
        if option in setting.wants and value is None:
            raise InputError(f"{name} with this preset wants a picture as --{option}")
    if through not in (None, SAMPLING, *VIEWS):
        raise InputError(f"unknown view {through!r}; choose one of {', '.join((*VIEWS, SAMPLING))}")
    if restarts is not None and restarts > 1 and (through or not attack.restarts):
        raise InputError(f"{name} draws anew at every step or has no random start, so that restarts gain nothing")
    if eps is not None:
        if setting.options.get("norm") != "l2":
            check_eps(eps)
        elif not 0 <= eps < math.inf:
            raise InputError(f"eps is {eps:g}; the radius of an ℓ2 ball is a number from 0 on")
        if 0 < eps * 255 < 1 - 1e-6:
            raise InputError(f"eps is {eps * 255:g}/255; the levels of a PNG cannot change by less than 1/255")
        setting = setting.at(eps)
    options = {key: value for key, value in (("prompt", prompt), ("restarts", restarts)) if value is not None}
    return replace(setting, steps=setting.steps if steps is None else steps, options={**setting.options, **options})


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
    job: Job, paths: list[Path], missing: list[Path], out: Path, wanted: dict[Path, dict], stepped: Stepped
) -> dict[Path, dict]:
    """Attack `paths`, write those of them that are `missing` and return their records."""
    vae, trace = job.vae, Trace(stepped)
    x = torch.stack([read_image(path) for path in paths]).to(vae.device)
    adversarial = job.run(x, [path.stem for path in paths], trace)
    doubts, records = trace.doubts(len(x)), {}
    for path in missing:
        i, target = paths.index(path), _target(out, path)
        write_image(target, adversarial[i])
        back = read_image(target)[None].to(vae.device)
        effective = job.size(back, x[i : i + 1]).item()
        if effective > job.setting.eps + 1e-6:
            raise AssertionError(f"{target}: moved by {effective:g}, more than the budget of {job.setting.eps:g}")
        with torch.no_grad():
            padded = (pad_to_multiple(image, vae.factor) for image in (back, x[i : i + 1]))
            shift = torch.sub(*(vae.mean(image) for image in padded)).square().mean().sqrt().item()
        measured = {"latent_shift": shift, "width": x.shape[-1], "height": x.shape[-2], "doubts": doubts[i]}
        shown = f"{effective:.4g} (ℓ2)" if job.norm == "l2" else f"{round(effective * 255)}/255"
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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_shape(mask: Path, x: Images) -> None:
    """A mask of other proportions would mark other pixels than it shows."""
    width, height = image_size(mask) or (x.shape[-1], x.shape[-2])
    if abs(width * x.shape[-2] - height * x.shape[-1]) > max(width, height) + max(x.shape[-2:]):
        raise InputError(
            f"{mask} is {width} x {height}, and an image {x.shape[-1]} x {x.shape[-2]}: give it the same proportions"
        )


def _target(out: Path, path: Path) -> Path:
    return out / f"{path.stem}.png"


def _fitted(path: Path, x: Images) -> Images:
    """The picture in `path`, its middle cut to the shape of `x` and resized to it, as a batch of one."""
    return to_tensor(ImageOps.fit(open_rgb(path), (x.shape[-1], x.shape[-2]), Image.Resampling.LANCZOS))[None].to(x)


@torch.no_grad()
def _write_sheet(job: Job, paths: list[Path], out: Path) -> None:
    """The middle of each image as it is: clean, attacked, what was changed, and what the VAE makes of the attacked image."""
    rows = []
    for path in paths:
        x, adversarial = (_middle(read_image(file)) for file in (path, _target(out, path)))
        padded = pad_to_multiple(adversarial[None], job.vae.factor).to(job.vae.device)
        again = job.vae.reconstruct(padded)[0, :, : x.shape[-2], : x.shape[-1]].cpu()
        rows.append([x, adversarial, 0.5 + GAIN * (adversarial - x), again])
    side = [max(row[0].shape[axis] for row in rows) for axis in (1, 2)]
    cells = [[F.pad(c, (0, side[1] - c.shape[2], 0, side[0] - c.shape[1]), value=1.0) for c in row] for row in rows]
    write_image(out / SHEET, tile(cells, ("clean", "attacked", f"difference × {GAIN}", "reconstruction")))


def _middle(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 _ _"]:
    """At most SIDE pixels of each side, not resized: resizing would take the perturbation away."""
    top, left = (max(0, (side - SIDE) // 2) for side in x.shape[1:])
    return x[:, top : top + SIDE, left : left + SIDE]
