"""Everything once, in minutes: the bundled VAE hardened on photographs that ship with scikit-image, attacked, reported."""

from __future__ import annotations

from pathlib import Path

from srlvae.bench.load_protocol import reconstruction_protocol
from srlvae.bench.reconstruction import reconstruction
from srlvae.events import Listener
from srlvae.extras import folder_of
from srlvae.files import write_atomically, write_json
from srlvae.harden import harden, preset
from srlvae.images import open_rgb
from srlvae.locks import holds
from srlvae.models.vae import load_vae
from srlvae.report.page import write_report
from srlvae.runs import claim

# Photographs in scikit-image's package itself, no download; its docstrings of skimage.data say whose they are.
TRAIN = ("coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "ihc.png")
TEST = ("astronaut.png", "chelsea.png")
TILE_TRAIN, TILE_TEST = 192, 128
STEPS = 250
RECORD = "quickstart.json"
RUN = {"steps": STEPS, "train": list(TRAIN), "test": list(TEST), "sizes": [TILE_TRAIN, TILE_TEST]}


@holds("out")
def quickstart(out: Path, listener: Listener) -> Path:
    """Harden `tiny` into `out`/vae, benchmark it into `out`/bench, and return the report. An interrupted run goes on.

    Raises InputError if `out` holds something else.
    """
    if (out / "vae" / "srlvae.json").exists() and not (out / RECORD).exists():  # from before there were such records
        write_json(out / RECORD, RUN)
    claim(out, RECORD, RUN)
    train, test = out / "photographs" / "train", out / "photographs" / "test"
    cut_photographs(TRAIN, train, TILE_TRAIN)
    cut_photographs(TEST, test, TILE_TEST)
    if not (out / "vae" / "srlvae.json").exists():
        harden("tiny", train, out / "vae", preset("cpu", steps=STEPS), listener=listener)
    vaes, protocol = (load_vae("tiny"), load_vae(out / "vae")), reconstruction_protocol("quick")
    reconstruction(*vaes, test, out / "bench", protocol, listener)
    return write_report([out / "bench"])


def cut_photographs(names: tuple[str, ...], folder: Path, size: int) -> None:
    """Cut scikit-image's photographs `names` into squares of `size` pixels below `folder`."""
    import skimage

    for name in names:
        image = open_rgb(folder_of(skimage) / "data" / name)
        for top in range(0, image.height - size + 1, size):
            for left in range(0, image.width - size + 1, size):
                square, file = image.crop((left, top, left + size, top + size)), folder / f"{Path(name).stem}_{top}_{left}.png"
                if not file.exists():
                    write_atomically(file, square.save)
