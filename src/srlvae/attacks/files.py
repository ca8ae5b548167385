"""An attack on image files: any size, PNGs that keep the budget, a record beside each, a contact sheet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from srlvae.attacks.memory import Size, plan, too_large
from srlvae.attacks.prepared import PreparedAttack
from srlvae.attacks.sheet import write_sheet
from srlvae.attacks.written import write_attacked
from srlvae.errors import UnreadableError
from srlvae.events import Listener
from srlvae.images import SHEET, LeftOut, Picture, Source, digest_of_picture, find_sources, image_size, read_picture, to_tensor
from srlvae.locks import holds
from srlvae.runs import claim, kept_record, write_record

# Hidden, as an image may have any other name.
RECORD = ".attack.json"


@holds("out")
def attack_files(
    attack: PreparedAttack,
    sources: list[Path],
    out: Path,
    *,
    batch: int = 8,
    resume: bool = True,
    listener: Listener | None = None,
) -> list[dict]:
    """Attack every image in `sources` (files or folders), and write a PNG and a .json to `out` where `find_sources` says.

    The colours are perturbed. Alpha, EXIF, XMP and texts are carried over, so that a PNG differs from its source in nothing but
    the perturbation and what the record calls converted or left out.

    Neighbours of one size are attacked together, `batch` at a time, and fewer where memory does not suffice; what comes of an
    image is then the same but for the order of sums. An image whose PNG and record are there is not made again, unless `resume`
    is off or its bytes have changed. Images that cannot be read, or that are too large for the memory, are left out, told to
    the listener and listed in `out`. The listener also hears of `images` and of the `steps` of each batch.

    Returns the records. Raises InputError if no image is left, for two sources of one name, for sources in `out` itself, or if
    `out` holds something else: another attack's images, or an image that was made from another file.
    """
    left_out = LeftOut(listener)
    found = find_sources(sources, out, left_out)
    run = _Run(attack, out, left_out, listener or Listener())
    claim(out, RECORD, attack.settings(), free=("pipeline",))
    try:
        run.look_at(found, resume)
        made = run.attack_all(1 if attack.request.attack.alone else batch)
        left_out.check_left(len(run.records))
    finally:
        left_out.write(out)
    done = [source for source in found if source in run.records]
    if made or not (out / SHEET).exists():
        write_sheet(attack.vae, [(source.path, run.png(source)) for source in done], out)
    return [run.records[source] for source in done]


@dataclass
class _Run:
    """The images that can be used, with what their records are to say, and the records that are there."""

    attack: PreparedAttack
    out: Path
    left_out: LeftOut
    listener: Listener
    wanted: dict[Source, dict[str, Any]] = field(default_factory=dict)
    records: dict[Source, dict[str, Any]] = field(default_factory=dict)

    def png(self, source: Source) -> Path:
        return self.out / f"{source.target}.png"

    def look_at(self, found: Sequence[Source], resume: bool) -> None:
        """Find out what each record is to say, and which are there."""
        settings = self.attack.settings()
        for source in found:
            try:
                wanted = {**settings, "source": str(source.path), "source_sha256": digest_of_picture(source.path)}
            except UnreadableError as error:
                self.left_out.add(source.path, error.reason)
                continue
            self.wanted[source] = wanted
            record = kept_record(self.png(source), wanted)
            if record and resume:
                self.records[source] = record
                for part in record.get("left_out", ()):
                    self.left_out.add(source.path, part, whole=False)

    def attack_all(self, batch: int) -> bool:
        """Attack every image that is not there, neighbours of one size together. Returns whether there was one."""
        sizes = {source: image_size(source.path) for source in self.wanted}
        missing = {s.path: size for s, size in sizes.items() if size and s not in self.records}
        limits, told, before = plan(self.attack, missing, batch, self.listener), 0, len(self.records)
        for size, same in itertools.groupby(sizes, key=lambda source: sizes[source]):
            group = list(same)
            # What has no size cannot be read, and what is there may have any.
            for part in self.attack_group(group, limits.get(size, batch) if size else 1, size):
                told += len(part)
                self.listener.at("images", told, len(sizes))
        return len(self.records) > before

    def attack_group(self, group: list[Source], count: int, size: Size | None) -> Iterator[list[Source]]:
        """Attack images of one size, `count` at a time, half as many where memory runs out; gives each batch when it is done.

        An image that is too large on its own is left out.
        """
        while group:
            part = group[: max(1, count)]
            try:
                if count == 0 and size and part[0] not in self.records:
                    self.left_out.add(part[0].path, too_large(size))
                elif any(source not in self.records for source in part):
                    self.attack_batch(part)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                count //= 2
                continue
            yield part
            group = group[len(part) :]

    def attack_batch(self, part: Sequence[Source]) -> None:
        """Attack the images of a batch, all of them, so that a run which was cut off goes on with the batches that it had."""
        pictures: dict[Source, Picture] = {}
        for source in part:
            try:
                pictures[source] = read_picture(source.path, left_out=self.left_out)
            except UnreadableError as error:
                self.left_out.add(source.path, error.reason)
        # Some headers promise another size than the picture has.
        for _, same in itertools.groupby(pictures, key=lambda source: pictures[source].rgb.size):
            self.attack_pictures({source: pictures[source] for source in same})

    def unchanged(self, measured: dict[str, Any]) -> list[str]:
        """A doubt if the attack was to change something, and nothing of it is on the file."""
        ball = self.attack.ball
        if measured["latent_shift"] or not ball.steps:
            return []
        if ball.eps == 0:
            return ["no pixel has changed: the budget is 0"]
        whole = "; its radius is that of the whole image" if ball.norm == "l2" else ""
        return [f"no pixel has changed: the budget is so small that rounding takes it back{whole}"]

    def attack_pictures(self, pictures: dict[Source, Picture]) -> None:
        """Attack pictures of one size, and write those whose records are missing."""
        trace = self.attack.follow(self.listener)
        x = torch.stack([to_tensor(picture.rgb) for picture in pictures.values()]).to(self.attack.vae.device)
        adversarial = self.attack.perturb(x, [source.name for source in pictures], trace)
        doubts = trace.doubts(len(x))
        for i, (source, picture) in enumerate(pictures.items()):
            if source not in self.records:
                measured = write_attacked(self.attack, self.png(source), picture, adversarial[i])
                said = doubts[i] + self.unchanged(measured)
                record = {**self.wanted[source], "objective": trace.ends(i), **measured, "doubts": said}
                self.records[source] = write_record(self.png(source), record)
