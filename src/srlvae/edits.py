"""Generated and edited images as files: PNGs, a record of how they were made, and a contact sheet. Existing images are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from srlvae.events import Listener
from srlvae.images import SHEET, find_sources, read_image, read_square, tile, write_image
from srlvae.models.edit_defaults import GUIDANCE, STEPS, EditSettings
from srlvae.models.pipeline import Pipeline, steps_run
from srlvae.rng import generators, named_generator
from srlvae.runs import claim

BATCH = 8
RECORD = "pictures.json"
# How many edits the contact sheet shows.
ROWS = 12


def generate_files(
    pipeline: Pipeline,
    prompts: Sequence[str],
    out: Path,
    *,
    count: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
    listener: Listener | None = None,
) -> Path:
    """Write `count` images of every prompt to `out` and return the contact sheet, which has one row for each prompt.

    Image i of every prompt starts from the noise of (seed, i). Images that exist already are not made again. The listener
    hears of each batch.

    Raises InputError if `out` holds images that were made with other settings.
    """
    pipeline.check_prompted()
    listener = listener or Listener()
    settings = {"prompts": list(prompts), "steps": steps, "guidance": guidance, "seed": seed}
    claim(out, RECORD, settings | _names(pipeline))
    rows = []
    for j, prompt in enumerate(prompts):
        paths = [out / f"{j:02d}-{_slug(prompt)}-{i:03d}.png" for i in range(count)]
        missing = [i for i in range(count) if not paths[i].exists()]
        for part in (missing[i : i + BATCH] for i in range(0, len(missing), BATCH)):
            y = pipeline.generate([prompt] * len(part), generators(seed, part), steps=steps, guidance=guidance)
            for i, image in zip(part, y, strict=True):
                write_image(paths[i], image)
            listener.at("images", j * count + part[-1] + 1, len(prompts) * count)
        rows.append([read_image(path) for path in paths])
    return _sheet(out, rows)


def edit_files(
    pipeline: Pipeline,
    sources: Sequence[Path],
    prompt: str,
    out: Path,
    settings: EditSettings | None = None,
    *,
    seed: int = 0,
    listener: Listener | None = None,
) -> Path:
    """Edit the centre square of every image in `sources` (files or folders) and write it to `out` under the image's name.

    Returns the contact sheet, which shows photographs beside their edits. Edits that exist already are not made again. The
    listener hears of each image.

    Raises InputError for an unreadable image, for two images of the same name, if the strength leaves no step to run, or if
    `out` holds images that were made with other settings.
    """
    pipeline.check_prompted()
    paths, settings, listener = find_sources(sources, out), settings or EditSettings(), listener or Listener()
    steps_run(settings.steps, settings.strength)
    claim(out, RECORD, {"prompt": prompt, **asdict(settings), "seed": seed} | _names(pipeline))
    for number, path in enumerate(paths, 1):
        target = out / f"{path.stem}.png"
        if not target.exists():
            # One at a time, so that an edit is the same to the last bit whatever stands beside it.
            x, draws = read_square(path, pipeline.size)[None], named_generator(seed, path.stem)
            write_image(target, pipeline.edit(x, [prompt], [draws], **asdict(settings))[0])
        listener.at("images", number, len(paths))
    shown = paths[:ROWS]
    return _sheet(out, [[read_square(p, pipeline.size), read_image(out / f"{p.stem}.png")] for p in shown], ("image", "edited"))


def _names(pipeline: Pipeline) -> dict:
    name = str(pipeline.pipe.config.get("_name_or_path"))
    return {"pipeline": name, "networks": pipeline.fingerprint(), "vae": pipeline.vae.fingerprint()}


def _slug(prompt: str) -> str:
    return re.sub(r"\W+", "-", prompt.lower()).strip("-")[:40] or "empty"


def _sheet(out: Path, rows: list[list[Tensor]], captions: Sequence[str] = ()) -> Path:
    write_image(out / SHEET, tile(rows, captions))
    return out / SHEET
