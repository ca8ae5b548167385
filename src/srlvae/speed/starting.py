"""How long it takes until something is there: help, imports, and the first result, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from srlvae.errors import InputError
from srlvae.images import Images, write_image
from srlvae.speed.rounds import Work


def starting_works(vae: str, x: Images, folder: Path) -> list[Work]:
    """Works of one way each; the first result is one step of an attack on a picture, which is written to `folder`."""
    picture = folder / "first.png"
    write_image(picture, x[0])
    attack = ("attack", "photoguard-encoder", str(picture), "--vae", vae, "--steps", "1", "--out")
    count = iter(range(sys.maxsize))
    starts: dict[str, Callable[[], tuple[str, ...]]] = {
        "import torch": lambda: ("-c", "import torch"),
        "import diffusers": lambda: ("-c", "from diffusers import AutoencoderKL, AutoencoderTiny"),
        "import srlvae": lambda: ("-c", "import srlvae"),
        "import srlvae.harden": lambda: ("-c", "import srlvae.harden"),
        "srlvae --help": lambda: ("-m", "srlvae", "--help"),
        "srlvae harden --help": lambda: ("-m", "srlvae", "harden", "--help"),
        "first result of srlvae attack": lambda: ("-m", "srlvae", *attack, str(folder / f"first-{next(count)}")),
    }
    return [Work(name, 1, {"from nothing": start(words)}) for name, words in starts.items()]


def start(words: Callable[[], tuple[str, ...]]) -> Callable[[], None]:
    """A function that starts Python with words that are made anew each time, and raises InputError if it ends with an error."""

    def run() -> None:
        ended = subprocess.run([sys.executable, *words()], capture_output=True, text=True)
        if ended.returncode:
            raise InputError(f"{' '.join(ended.args)} ended with the exit code {ended.returncode}: {ended.stderr[-500:]}")

    return run
