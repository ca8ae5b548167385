"""Commands that are killed at any moment and started again, or started twice at once: the same as without, or a sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from broken import picture
from conftest import small_kl
from killed import finish, start, touches
from pipelines import little
from srlvae.files import PARTIAL
from srlvae.locks import hold


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Small models and pictures."""
    folder = tmp_path_factory.mktemp("kills")
    vae = small_kl()
    vae.save(folder / "vae")
    little(vae).pipe.save_pretrained(folder / "pipe")
    vae.model.encoder.conv_in.weight.mul_(1.2)
    vae.save(folder / "other")
    for i in range(6):
        (folder / "photographs").mkdir(exist_ok=True)
        picture(i, 48).save(folder / "photographs" / f"{i}.png")
    (folder / "short.toml").write_text(
        'attacks = ["reconstruction"]\neps = ["8/255"]\nsteps = 1\nimages = 4\nclean_images = 4\nsize = 32\nbatch_size = 2\n'
    )
    return folder


def words_of(command: str, place: Path, out: Path) -> list[str]:
    images = ["--images", str(place / "photographs")]
    vaes = ["--original", str(place / "vae"), "--hardened", str(place / "other")]
    quick = "--precision no --batch-size 2 --steps 3 --checkpoint-every 1".split()
    known = {
        "harden": ["harden", str(place / "vae"), *images, *quick, *"--resolution 32 --features none --workers 0".split()],
        "attack": ["attack", "latent", str(place / "photographs"), "--vae", str(place / "vae"), "--steps", "1", "--batch", "2"],
        "scan": ["scan", str(place / "photographs"), "--clean", str(place / "photographs"), *vaes, "--rate", "0.2"],
        "finetune": ["finetune", *images, *quick, "--pipeline", str(place / "pipe"), "--prompt", "a cat"],
        "bench": ["bench", "reconstruction", *vaes, *images, "--protocol", str(place / "short.toml")],
        "edit": ["edit", images[1], "--pipeline", str(place / "pipe"), *"--prompt a --steps 1 --strength 1".split()],
    }
    return [*known[command], "--out", str(out)]


def weights(out: Path) -> object:
    """Every weight that came out, by file and name."""
    found = {path.relative_to(out): load_file(path) for path in out.rglob("*.safetensors")}
    return {(file, name): value.numpy().tobytes() for file, tensors in found.items() for name, value in tensors.items()}


def files(out: Path) -> object:
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def lines(out: Path) -> object:
    """The tables, their lines in any order."""
    return {path.relative_to(out): sorted(path.read_text().splitlines()) for path in out.rglob("*.csv")}


def rows(out: Path) -> object:
    return json.loads((out / "reconstruction.json").read_text())["rows"], (out / "grid.png").read_bytes()


RESULTS: dict[str, Callable[[Path], object]] = {
    "harden": weights,
    "attack": files,
    "scan": lines,
    "finetune": weights,
    "bench": rows,
    "edit": files,
}
# Those that refuse a folder in which they have finished.
ONCE = ("harden", "finetune")


@pytest.fixture(scope="module")
def whole(place) -> Callable[[str], tuple[object, int]]:
    """What comes of a command that is left alone, and how many files it touches."""
    found: dict[str, tuple[object, int]] = {}

    def run(command: str) -> tuple[object, int]:
        if command not in found:
            out, said = place / command / "whole", place / f"{command}.txt"
            assert finish(words_of(command, place, out), said, place) == 0, said.read_text()
            found[command] = RESULTS[command](out), touches(said)
        return found[command]

    return run


def check_same(command: str, out: Path, expected: object, code: int, said: Path) -> None:
    assert code == 0 or (command in ONCE and code == 2 and "holds a finished run" in said.read_text()), said.read_text()
    assert RESULTS[command](out) == expected
    left = [path.name for path in out.rglob(".srlvae*")]
    assert not left and not any(PARTIAL.fullmatch(path.name) for path in out.rglob("*"))


def kill_and_go_on(command: str, place: Path, whole, *moments: int) -> None:
    expected, _ = whole(command)
    # What fails is named for its moments.
    name = "-".join(["cut", *map(str, moments)])
    out, said = place / command / name, place / command / f"{name}.txt"
    for moment in moments:
        # A run that goes on touches fewer files: it may end before its moment comes.
        assert finish(words_of(command, place, out), said, place, moment) in (-9, 0, 2)
    check_same(command, out, expected, finish(words_of(command, place, out), said, place), said)


@pytest.mark.parametrize("command", RESULTS)
def test_a_command_that_is_killed_goes_on_and_ends_the_same(command, place, whole):
    _, count = whole(command)
    kill_and_go_on(command, place, whole, random.Random(f"{command} 0").randint(1, count))


@pytest.mark.slow
@pytest.mark.parametrize("command", RESULTS)
def test_a_command_that_is_killed_at_twenty_moments_goes_on_and_ends_the_same(command, place, whole):
    _, count = whole(command)
    for moment in random.sample(range(1, count + 1), 17):
        kill_and_go_on(command, place, whole, moment)
    # Again and again, as on a machine that is taken away.
    kill_and_go_on(command, place, whole, *random.sample(range(1, count + 1), 3))


# Those that remove what they needed to go on, once they have ended.
@pytest.mark.slow
@pytest.mark.parametrize("command", ONCE)
def test_a_command_that_is_killed_where_it_ends_leaves_what_one_leaves_that_is_not(command, place, whole):
    _, count = whole(command)
    for moment in range(count - 15, count + 1):
        kill_and_go_on(command, place, whole, moment)


@pytest.mark.parametrize("command", RESULTS)
def test_two_at_once_in_a_folder_make_what_one_makes(command, place, whole):
    expected, _ = whole(command)
    out = place / command / "both"
    told = [place / command / f"both-{number}.txt" for number in range(2)]
    processes = [start(words_of(command, place, out), said, place) for said in told]
    for process in processes:
        process.join()
    for process, said in zip(processes, told, strict=True):
        words = said.read_text()
        refused = "in use by another run of srlvae" in words or (command in ONCE and "holds a finished run" in words)
        assert process.exitcode == 0 or (process.exitcode == 2 and refused), words
    check_same(command, out, expected, min(process.exitcode for process in processes), told[0])


@pytest.mark.parametrize("command", RESULTS)
def test_a_folder_in_use_is_named_and_left_alone(command, place):
    out, said = place / command / "held", place / "held.txt"
    with hold(out):
        before = {path.name for path in out.rglob("*")}
        assert finish(words_of(command, place, out), said, place) == 2
        assert f"{out} is in use by another run of srlvae (process" in said.read_text()
        assert {path.name for path in out.rglob("*")} == before
    assert not out.exists()
