"""Scan: which of some pictures were perturbed, judged against clean photographs."""

from __future__ import annotations

import html
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from srlvae.app.attacking import attacked
from srlvae.app.models import Models
from srlvae.app.samples import about_clean_squares, clean_squares, other_squares
from srlvae.app.widgets import buttons
from srlvae.app.work import Watcher, Work
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.files import shown
from srlvae.images import SUFFIXES, find_images, open_rgb, read_image, write_image
from srlvae.report.scan import scan_lines
from srlvae.scan import Calibration, Encoders, Score, calibrate_looks, check_enough, clean_evidence, count, scan, score

ABOUT = (
    "Find pictures that were changed to mislead the original encoder: it and the hardened one then disagree. A verdict is no "
    "proof, and holds only for pictures like the clean ones that it is calibrated on."
)
RATES = (0.01, 0.05, 0.1)
# How many pictures are scanned at once, and the side of the small ones that are shown.
MOST, SIDE = 300, 240
VERDICTS = {"yes": "suspicious", "no": "nothing found", "unlike": "unlike clean ones"}
# The example: squares of photographs, every second of them attacked.
EXAMPLES, ATTACK = 6, Request("mist-textural", eps=8 / 255, steps=20)


@dataclass(frozen=True)
class Result:
    """The scores of pictures, what they are judged by, and small copies of those that could be read, by name."""

    scores: list[Score]
    calibration: Calibration
    rests_on: str
    small: dict[str, Image.Image]


@dataclass
class Scanner:
    """Scans pictures with the models of the page.

    - clean: a folder of clean photographs. By default squares of photographs that come with scikit-image.
    - room: a folder for tables and copies. What clean photographs look like is worked out once and kept there.
    """

    models: Models
    clean: Path | None
    room: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, listener: Watcher, pictures: Sequence[str], clean: Sequence[str], rate: float) -> Result:
        """Scan uploaded pictures against uploaded clean ones, or against the scanner's own where there are none.

        Raises InputError if there are no pictures, too many, or too few clean ones for the rate.
        """
        if not pictures:
            raise InputError("give some pictures first, or take the example")
        if len(pictures) + len(clean) > MOST:
            raise InputError(f"{len(pictures) + len(clean)} pictures are more than {MOST}; srlvae scan takes whole folders")
        if clean:
            check_enough(len(clean), rate)
        with tempfile.TemporaryDirectory(dir=self.room) as place:
            folder = _gathered(pictures, Path(place) / "pictures")
            own = _gathered(clean, Path(place) / "clean") if clean else None
            return self._judged(listener, folder, own, Path(place), rate)

    def example(self, listener: Watcher, rate: float) -> Result:
        """Scan squares of photographs, of which every second is attacked first."""
        with tempfile.TemporaryDirectory(dir=self.room) as place:
            folder = Path(place) / "pictures"
            listener.begins("attacking every second picture")
            chosen = find_images(other_squares(Path(place) / "squares"))[:EXAMPLES]
            for number, path in enumerate(chosen):
                x = read_image(path)[None].to(self.models.original.device)
                if number % 2:
                    x, _ = attacked(listener, ATTACK, self.models.original, x)
                write_image(folder / f"{'attacked' if number % 2 else 'clean'}-{number}.png", x[0])
            return self._judged(listener, folder, None, Path(place), rate)

    def _judged(self, listener: Watcher, folder: Path, own: Path | None, place: Path, rate: float) -> Result:
        listener.begins("loading the models")
        encoders = Encoders(self.models.original, self.models.hardened)
        listener.begins("looking at clean photographs")
        if own:
            known, rests_on = scan(encoders, own, place / "own", listener), "the clean photographs that you gave"
        else:
            with self.lock:
                clean, rests_on = self.clean or clean_squares(self.room / "clean"), self.about_clean()
                known = scan(encoders, clean, clean_evidence(self.room, clean), listener)
        calibration = calibrate_looks([one.evidence for one in known if one.evidence], rate)
        listener.begins("looking at the pictures")
        scores = score(scan(encoders, folder, place / "seen", listener), calibration)
        small = {one.file: _small(folder / one.file) for one in scores if one.value is not None}
        return Result(scores, calibration, rests_on, small)

    def about_clean(self) -> str:
        """What the scanner's own clean photographs are, in words."""
        return f"the photographs in {self.clean.name}" if self.clean else about_clean_squares()


def _gathered(pictures: Sequence[str], folder: Path) -> Path:
    """Copy pictures below one folder, each into a folder of its own: two may have the same name."""
    for number, picture in enumerate(pictures):
        target = folder / f"{number:04d}" / Path(picture).name
        target.parent.mkdir(parents=True)
        shutil.copyfile(picture, target)
    return folder


def _small(path: Path) -> Image.Image:
    image = open_rgb(path)
    image.thumbnail((SIDE, SIDE))
    return image


def show(result: Result) -> tuple[Any, ...]:
    """A result as the values of the tab's widgets: what was found and what it rests on, pictures with captions, a table."""
    threshold = result.calibration.threshold
    captions, lines = [], []
    for one in result.scores:
        if one.value is None:
            lines.append([Path(one.file).name, "", f"could not be read: {one.error.split(': ', 1)[-1]}"])
            continue
        verdict = VERDICTS[one.verdict(threshold)]
        captions.append((result.small[one.file], verdict))
        lines.append([Path(one.file).name, f"{one.value:.2f}", f"{verdict}: {one.unlike}" if one.unlike else verdict])
    said = _sentences(scan_lines(count(result.scores, result.calibration.threshold), result.calibration))
    basis = f"{result.calibration.images} clean pictures: {result.rests_on}"
    return f"{said}\n\n**Rests on** {basis}. Of other kinds of pictures a verdict says little.", captions, _table(lines)


def _sentences(lines: list[str]) -> str:
    """Lines of a terminal as sentences; those that are indented belong to the one before."""
    found: list[str] = []
    for line in lines:
        if line.startswith(" "):
            found[-1] += f"{' ' if found[-1].endswith(':') else '; '}{line.strip()}"
        else:
            found.append(line[:1].upper() + line[1:])
    return " ".join(f"{sentence}." for sentence in found)


def _table(lines: list[list[str]]) -> str:
    """A table in HTML: names of files are anything, and Markdown would read some of them as its own."""
    rows = [f"<tr>{''.join(f'<td>{html.escape(shown(cell))}</td>' for cell in line)}</tr>" for line in lines]
    return f"<table><tr><th>picture</th><th>score</th><th>verdict</th></tr>{''.join(rows)}</table>"


def build(gr: Any, work: Work, scanner: Scanner) -> None:
    """Add the widgets of the tab, and tie them to `scanner`."""
    gr.Markdown(ABOUT)
    kinds = sorted(SUFFIXES)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            pictures = gr.File(label="Pictures", file_count="multiple", file_types=kinds, height=160)
            rate = gr.Dropdown(
                [(f"{rate:.0%}", rate) for rate in RATES], value=RATES[0], label="False alarms", info="share of clean pictures"
            )
            with gr.Accordion("Clean photographs of your own", open=False):
                gr.Markdown(
                    "Photographs of the same source and size that nobody has changed: 99 for 1 % of false alarms, 19 for 5 %, "
                    f"9 for 10 %. Without them verdicts rest on {scanner.about_clean()}."
                )
                clean = gr.File(label="Clean photographs", file_count="multiple", file_types=kinds, height=120)
            run, stop = buttons(gr, "Scan")
            example = gr.Button(f"Example: {EXAMPLES} pictures, half of them attacked", size="sm")
        with gr.Column(scale=3, min_width=280):
            said = gr.Markdown("The result will be here.", elem_classes="result")
            gallery = gr.Gallery(
                show_label=False, columns=3, height="auto", format="png", interactive=False, buttons=[], elem_classes="scanned"
            )
            table = gr.HTML(elem_classes="verdicts", padding=False)

    def run_scan(listener: Watcher, pictures: list[str] | None, clean: list[str] | None, rate: float):
        return show(scanner.look(listener, pictures or [], clean or [], rate))

    def run_example(listener: Watcher, rate: float):
        return show(scanner.example(listener, rate))

    outputs = [said, gallery, table]
    work.bind("scan", run_scan, [run.click], stop, [pictures, clean, rate], outputs)
    work.bind("example", run_example, [example.click], stop, [rate], outputs)
