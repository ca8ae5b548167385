"""Generated and edited images as files: PNGs, a record of how they were made, and a contact sheet. Existing images are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.errors import BlackedOutError, InputError, UnreadableError
from srlvae.events import Listener
from srlvae.images import (
    LeftOut,
    Source,
    digest_of_picture,
    find_sources,
    fit,
    read_image,
    read_picture,
    tile,
    write_contact_sheet,
    write_image,
)
from srlvae.locks import holds
from srlvae.models.edit_settings import GUIDANCE, STEPS, EditSettings, steps_run
from srlvae.models.pipeline import Pipeline
from srlvae.models.prompts import warn_of_unread
from srlvae.rng import Generators, generators, named_generator
from srlvae.runs import claim, kept_record, write_record

BATCH = 8
RECORD = "pictures.json"
# Where the pipeline lies; its weights and settings are in the record, too.
FREE = ("pipeline",)
# How many edits, or images of how many prompts, the contact sheet shows, and how many of a prompt.
ROWS, COLUMNS = 12, 8


@holds("out")
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
    """Write `count` images of every prompt to `out`, and return the contact sheet: the first of them, a row a prompt.

    Image i of every prompt starts from the noise of (seed, i). Images that exist already are not made again. Images that the
    pipeline's safety checker blacks out are left out, told to the listener and listed in `out`. The listener also hears of each
    batch.

    Raises InputError if `out` holds images that were made with other settings, or if none is left.
    """
    pipeline.check_prompted()
    EditSettings(steps=steps, guidance=guidance).check()
    left_out = LeftOut(listener)
    settings = {"prompts": list(prompts), "steps": steps, "guidance": guidance, "seed": seed}
    claim(out, RECORD, settings | _names(pipeline), free=FREE)
    warn_of_unread(pipeline, prompts)
    total, rows = len(prompts) * count, []
    try:
        for j, prompt in enumerate(prompts):
            paths = [out / f"{j:02d}-{_slug(prompt)}-{i:03d}.png" for i in range(count)]
            missing = [i for i in range(count) if not paths[i].exists()]
            for part in (missing[i : i + BATCH] for i in range(0, len(missing), BATCH)):
                y, black = _generated(pipeline, prompt, generators(seed, part), steps=steps, guidance=guidance)
                for number, (i, image) in enumerate(zip(part, y, strict=True)):
                    if number in black:
                        left_out.add(paths[i], BlackedOutError.reason)
                    else:
                        write_image(paths[i], image)
                left_out.listener.at("images", j * count + part[-1] + 1, total)
                left_out.listener.check()
            if len(rows) < ROWS:
                rows.append([path if path.exists() else None for path in paths[:COLUMNS]])
        left_out.check_left(total - len(left_out.files))
    finally:
        left_out.write(out)
    blank = torch.ones(3, pipeline.size, pipeline.size)
    return _sheet(out, [[read_image(path) if path else blank for path in row] for row in rows])


def _generated(pipeline: Pipeline, prompt: str, draws: Generators, **settings: Any) -> tuple[Tensor, list[int]]:
    """Images of a prompt, and the numbers of those that are blacked out."""
    try:
        return pipeline.generate([prompt] * len(draws), draws, **settings), []
    except BlackedOutError as error:
        return error.images, error.numbers


@holds("out")
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
    """Edit the centre square of every image in `sources` (files or folders) and write a PNG to `out`, as `find_sources` says.

    Transparency is laid on white; EXIF, XMP and texts are carried over. Returns the contact sheet, which shows photographs
    beside their edits. Edits that exist already are not made again, unless the image has changed since. Images that cannot be
    read are left out, told to the listener and listed in `out`. The listener also hears of each image.

    Raises InputError if no image can be read, for two images of the same name, if the strength leaves no step to run, or if
    `out` holds images that were made with other settings or from other files.
    """
    pipeline.check_prompted()
    listener, settings = listener or Listener(), (settings or EditSettings()).check()
    left_out = LeftOut(listener)
    found = find_sources(sources, out, left_out)
    steps_run(settings.steps, settings.strength)
    if taken := next((source.path for source in found if f"{source.target}.json" == RECORD), None):
        raise InputError(f"the record of {taken} would be called {RECORD}, as the record of the whole run is; rename the image")
    claim(out, RECORD, {"prompt": prompt, **asdict(settings), "seed": seed} | _names(pipeline), free=FREE)
    warn_of_unread(pipeline, [prompt])
    rows: list[list[Tensor]] = []
    try:
        for number, source in enumerate(found, 1):
            try:
                row = _edit_file(pipeline, source, out / f"{source.target}.png", prompt, settings, seed, left_out)
                rows += [row] if len(rows) < ROWS else []
            except (UnreadableError, BlackedOutError) as error:
                left_out.add(source.path, error.reason)
            listener.at("images", number, len(found))
            listener.check()
        left_out.check_left(len(rows))
    finally:
        left_out.write(out)
    return _sheet(out, rows, ("image", "edited"))


def _edit_file(
    pipeline: Pipeline, source: Source, target: Path, prompt: str, settings: EditSettings, seed: int, left_out: LeftOut
) -> list[Tensor]:
    """The square that is edited, and its edit, which is made if it is not there."""
    picture = read_picture(source.path, left_out=left_out)
    if min(sides := picture.rgb.size) < pipeline.size / 2:
        left_out.add(source.path, f"its details: it was enlarged from {sides[0]} x {sides[1]} pixels", whole=False)
    x = fit(picture.on_white(), pipeline.size, pipeline.size)
    wanted = {"source": str(source.path), "source_sha256": digest_of_picture(source.path)}
    if kept_record(target, wanted) is None:
        # One at a time, so that an edit is the same to the last bit whatever stands beside it.
        draws = [named_generator(seed, source.name)]
        write_image(target, pipeline.edit(x[None], [prompt], draws, **asdict(settings))[0], picture.carried)
        write_record(target, wanted)
    return [x, read_image(target)]


def _names(pipeline: Pipeline) -> dict:
    name = str(pipeline.pipe.config.get("_name_or_path"))
    weights = {"networks": pipeline.fingerprint(), "vae": pipeline.vae.fingerprint(), "sampling": pipeline.settings()}
    return {"pipeline": name, **weights}


def _slug(prompt: str) -> str:
    return re.sub(r"\W+", "-", prompt.lower()).strip("-")[:40] or "empty"


def _sheet(out: Path, rows: list[list[Tensor]], captions: Sequence[str] = ()) -> Path:
    return write_contact_sheet(out, tile(rows, captions))
