"""Every option and argument of every command reaches the library as it was given.

Each has a row with words for the command line and with what is to be found at the public function that does the work, which is
replaced by one that takes note. What that function does with it is tested beside it. An option without a row is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from reached import Commands
from srlvae import links
from srlvae.cli import app
from srlvae.harden import OBJECTIVES

# What a command is asked for if nothing else is said. PHOTO, FOLDER and OUT stand for places below the test's folder.
PHOTO, FOLDER, OUT = "PHOTO", "FOLDER", "OUT"
BASE: dict[str, tuple[object, ...]] = {
    "quickstart": ("--out", OUT),
    "harden": ("tiny", "--images", FOLDER, "--out", OUT),
    "apply": ("an-encoder", "--to", "a-base", "--out", OUT),
    "export": ("tiny", "--to", "ldm", "--out", OUT),
    "push": (FOLDER, "me/mine"),
    "attack": ("photoguard-encoder", PHOTO, "--out", OUT),
    "generate": ("--prompt", "a cat", "--out", OUT),
    "edit": (PHOTO, "--prompt", "a cat", "--out", OUT),
    "finetune": ("--images", FOLDER, "--out", OUT),
    "scan": (FOLDER, "--clean", FOLDER, "--out", OUT, "--rate", 0.2),
    "bench reconstruction": ("--original", "a", "--hardened", "b", "--images", FOLDER, "--out", OUT),
    "bench hardening": (FOLDER, "--original", "a", "--images", FOLDER, "--out", OUT),
    "bench speed": ("--images", FOLDER, "--out", OUT),
    "bench editing": ("--images", FOLDER, "--out", OUT),
    "bench poisoning": ("--images", FOLDER, "--out", OUT),
    "bench mimicry": ("--images", FOLDER, "--out", OUT),
    "bench all": ("--vae", "a", "--images", FOLDER, "--out", OUT),
    "report": (FOLDER,),
    "app": (),
}


@dataclass(frozen=True)
class Row:
    """`words` in addition to the command's base, or to `base`, make `read` of the call give `wanted`; without them it is other.

    - read: the name of a parameter of the function that does the work, or a function of all its parameters.
    """

    words: tuple[object, ...]
    read: str | Callable[[dict[str, Any]], Any]
    wanted: object
    base: tuple[object, ...] | None = None


def of(parameter: str, *names: str) -> Callable[[dict[str, Any]], Any]:
    """Reads an attribute of an attribute of a parameter."""

    def read(call: dict[str, Any]) -> Any:
        found = call[parameter]
        for name in names:
            found = getattr(found, name)
        return found

    return read


def limit(_: dict[str, Any]) -> int | None:
    """The pixels of the largest image that is read."""
    return Image.MAX_IMAGE_PIXELS


def reports_to(call: dict[str, Any]) -> str | None:
    """The tracker that is told."""
    return getattr(call["listener"], "name", None)


META = torch.device("meta")
STRICT = Row(("--strict",), of("listener", "strict"), True)
PIXELS = Row(("--max-pixels", 7), limit, 7)
LINKS = Row(("--follow-links",), lambda _: links.leads_out("/", "/nowhere"), False)
# A folder with images, and one that is not there yet.
NEW, FRESH = Path("NEW"), Path("FRESH")
ON_SHARDS = ("SHARDS", "--clean", FOLDER, "--out", OUT, "--rate", 0.2)
ON_PIPELINE = ("advdm", PHOTO, "--out", OUT)

ROWS: dict[str, dict[str, Row]] = {
    "quickstart": {"--out": Row(("--out", NEW), "out", NEW)},
    "harden": {
        "vae": Row((), "vae", "other", ("other", *BASE["harden"][1:])),
        "--images": Row(("--images", "dataset"), of("images", "source"), "dataset"),
        "--out": Row(("--out", NEW), "out", NEW),
        "--preset": Row(("--preset", "cpu"), of("config", "resolution"), 96),
        "--objective": Row(("--objective", "fare"), of("config", "objective"), OBJECTIVES["fare"]),
        "--closeness": Row(("--closeness", 0.3), of("config", "objective", "closeness"), 0.3),
        "--config": Row(("--config", "SETTINGS"), of("config", "steps"), 77),
        "--steps": Row(("--steps", 5), of("config", "steps"), 5),
        "--batch-size": Row(("--batch-size", 6), of("config", "batch_size"), 6),
        "--micro-batch": Row(("--micro-batch", 2), of("config", "micro_batch"), 2),
        "--resolution": Row(("--resolution", 64), of("config", "resolution"), 64),
        "--eps": Row(("--eps", "4/255"), lambda call: {a.eps for a in call["config"].objective.attacks}, {4 / 255}),
        "--learning-rate": Row(("--learning-rate", 0.5), of("config", "learning_rate"), 0.5),
        "--features": Row(("--features", "none"), of("config", "features"), "none"),
        "--precision": Row(("--precision", "bf16"), of("config", "precision"), "bf16"),
        "--seed": Row(("--seed", 9), of("config", "seed"), 9),
        "--checkpoint-every": Row(("--checkpoint-every", 3), of("config", "checkpoint_every"), 3),
        "--snapshot-every": Row(("--snapshot-every", 3), of("config", "snapshot_every"), 3),
        "--gradient-checkpointing": Row(("--no-gradient-checkpointing",), of("config", "gradient_checkpointing"), False),
        "--report-to": Row(("--report-to", "tensorboard"), reports_to, "tensorboard"),
        "--held-out": Row(("--held-out", 3), of("config", "held_out"), 3),
        "--workers": Row(("--workers", 1), of("config", "workers"), 1),
        "--resume": Row(("--no-resume",), "resume", False),
        "--streaming": Row(("--streaming",), of("images", "streaming"), True),
        "--image-column": Row(("--image-column", "pixels"), of("images", "column"), "pixels"),
        "--strict": STRICT,
        "--max-pixels": PIXELS,
        "--follow-links": LINKS,
    },
    "apply": {
        "encoder": Row((), of("encoder", "source"), "another", ("another", *BASE["apply"][1:])),
        "--to": Row(("--to", "another"), of("base", "source"), "another"),
        "--out": Row(("--out", FRESH), "out", FRESH),
    },
    "export": {
        "vae": Row((), of("vae", "source"), "other", ("other", *BASE["export"][1:])),
        "--to": Row(("--to", "taesd"), "to", "taesd"),
        "--out": Row(("--out", NEW), "out", NEW),
        "--dtype": Row(("--dtype", "bfloat16"), "dtype", torch.bfloat16),
        "--variant": Row(("--variant", "fp16"), "variant", "fp16"),
        "--name": Row(("--name", "taesdxl"), "name", "taesdxl"),
    },
    "push": {
        "folder": Row((), "folder", NEW, (NEW, "me/mine")),
        "repository": Row((), "repository", "me/other", (FOLDER, "me/other")),
        "--private": Row(("--private",), "private", True),
    },
    "attack": {
        "name": Row((), of("attack", "request", "name"), "latent", ("latent", PHOTO, "--out", OUT)),
        "--also": Row(("--also", "other"), of("attack", "request", "also"), "other"),
        "images": Row((), "sources", [NEW, NEW], ("photoguard-encoder", NEW, NEW, "--out", OUT)),
        "--preset": Row(("--preset", "app"), of("attack", "request", "preset"), "app"),
        "--vae": Row(("--vae", "other"), of("attack", "model", "source"), "other"),
        "--pipeline": Row(("--pipeline", "other"), of("attack", "model", "source"), "other", ON_PIPELINE),
        "--out": Row(("--out", NEW), "out", NEW),
        "--eps": Row(("--eps", "4/255"), of("attack", "request", "eps"), 4 / 255),
        "--steps": Row(("--steps", 3), of("attack", "request", "steps"), 3),
        "--prompt": Row(("--prompt", "a cat"), of("attack", "request", "prompt"), "a cat", ON_PIPELINE),
        "--target": Row(("--target", NEW), of("attack", "request", "target"), NEW),
        "--mask": Row(("--mask", NEW), of("attack", "request", "mask"), NEW),
        "--through": Row(("--through", "jpeg"), of("attack", "request", "through"), "jpeg"),
        "--draws": Row(("--draws", 2, "--through", "jpeg"), of("attack", "request", "draws"), 2),
        "--restarts": Row(("--restarts", 3), of("attack", "request", "restarts"), 3),
        "--features": Row(("--features", "n"), of("attack", "request", "features"), "n", ("glaze", PHOTO, "--out", OUT)),
        "--batch": Row(("--batch", 3), "batch", 3),
        "--seed": Row(("--seed", 5), of("attack", "request", "seed"), 5),
        "--device": Row(("--device", "meta"), of("attack", "model", "device"), META),
        "--precision": Row(("--precision", "bf16"), of("attack", "request", "precision"), "bf16"),
        "--resume": Row(("--no-resume",), "resume", False),
        "--strict": STRICT,
        "--max-pixels": PIXELS,
        "--follow-links": LINKS,
    },
    "generate": {
        "--prompt": Row(("--prompt", "a dog"), "prompts", ["a cat", "a dog"]),
        "--out": Row(("--out", NEW), "out", NEW),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--n": Row(("--n", 2), "count", 2),
        "--vae": Row(("--vae", "other"), of("pipeline", "vae"), "other"),
        "--steps": Row(("--steps", 3), "steps", 3),
        "--guidance": Row(("--guidance", 2.5), "guidance", 2.5),
        "--seed": Row(("--seed", 5), "seed", 5),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--precision": Row(("--precision", "bf16"), of("pipeline", "precision"), "bf16"),
    },
    "edit": {
        "images": Row((), "sources", [NEW, NEW], (NEW, NEW, *BASE["edit"][1:])),
        "--prompt": Row(("--prompt", "a dog"), "prompt", "a dog"),
        "--out": Row(("--out", NEW), "out", NEW),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--strength": Row(("--strength", 0.25), of("settings", "strength"), 0.25),
        "--vae": Row(("--vae", "other"), of("pipeline", "vae"), "other"),
        "--steps": Row(("--steps", 3), of("settings", "steps"), 3),
        "--guidance": Row(("--guidance", 2.5), of("settings", "guidance"), 2.5),
        "--seed": Row(("--seed", 5), "seed", 5),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--precision": Row(("--precision", "bf16"), of("pipeline", "precision"), "bf16"),
        "--strict": STRICT,
        "--max-pixels": PIXELS,
        "--follow-links": LINKS,
    },
    "finetune": {
        "--images": Row(("--images", NEW), "images", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--vae": Row(("--vae", "other"), of("pipeline", "vae"), "other"),
        "--captions": Row(("--captions", NEW), of("captions", "table"), NEW),
        "--caption-column": Row(("--caption-column", "words"), of("captions", "column"), "words"),
        "--prompt": Row(("--prompt", "a dog"), "prompt", "a dog"),
        "--lora-rank": Row(("--lora-rank", 3), of("config", "lora_rank"), 3),
        "--steps": Row(("--steps", 3), of("config", "steps"), 3),
        "--batch-size": Row(("--batch-size", 3), of("config", "batch_size"), 3),
        "--learning-rate": Row(("--learning-rate", 0.5), of("config", "learning_rate"), 0.5),
        "--precision": Row(("--precision", "bf16"), of("config", "precision"), "bf16"),
        "--seed": Row(("--seed", 5), of("config", "seed"), 5),
        "--checkpoint-every": Row(("--checkpoint-every", 3), of("config", "checkpoint_every"), 3),
        "--report-to": Row(("--report-to", "tensorboard"), reports_to, "tensorboard"),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--strict": STRICT,
        "--max-pixels": PIXELS,
        "--follow-links": LINKS,
    },
    "scan": {
        "images": Row((), "folder", NEW, (NEW, *BASE["scan"][1:])),
        "--clean": Row(("--clean", NEW), "clean", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--original": Row(("--original", "other"), of("original", "source"), "other"),
        "--hardened": Row(("--hardened", "other"), of("hardened", "source"), "other"),
        "--rate": Row(("--rate", 0.3), "rate", 0.3),
        "--engine": Row(("--engine", "ray"), "engine", ("ray", None)),
        "--workers": Row(("--workers", 2), "engine", ("ray", 2), (*ON_SHARDS, "--engine", "ray")),
        "--precision": Row(("--precision", "bf16"), "precision", "bf16"),
        "--image-column": Row(("--image-column", "pixels"), "column", "pixels", ON_SHARDS),
        "--device": Row(("--device", "meta"), of("hardened", "device"), META),
        "--strict": STRICT,
        "--max-pixels": PIXELS,
        "--follow-links": LINKS,
    },
    "bench reconstruction": {
        "--original": Row(("--original", "other"), of("original", "source"), "other"),
        "--hardened": Row(("--hardened", "other"), of("hardened", "source"), "other"),
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--protocol": Row(("--protocol", "quick"), of("protocol", "clean_images"), 8),
        "--eps": Row(("--eps", "4/255", "--eps", "8/255"), of("protocol", "eps"), (4 / 255, 8 / 255)),
        "--n": Row(("--n", 3), of("protocol", "images"), 3),
        "--clean-n": Row(("--clean-n", 3), of("protocol", "clean_images"), 3),
        "--steps": Row(("--steps", 3), of("protocol", "steps"), 3),
        "--size": Row(("--size", 64), of("protocol", "size"), 64),
        "--seed": Row(("--seed", 5), of("protocol", "seed"), 5),
        "--device": Row(("--device", "meta"), of("hardened", "device"), META),
        "--follow-links": LINKS,
    },
    "bench hardening": {
        "runs": Row((), "runs", [NEW, NEW], (NEW, NEW, *BASE["bench hardening"][1:])),
        "--original": Row(("--original", "other"), of("original", "source"), "other"),
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--protocol": Row(("--protocol", "PROTOCOL"), of("protocol", "images"), 77),
        "--device": Row(("--device", "meta"), of("original", "device"), META),
        "--follow-links": LINKS,
    },
    "bench speed": {
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--vae": Row(("--vae", "other"), of("settings", "vae"), "other"),
        "--hardened": Row(("--hardened", "other"), of("settings", "hardened"), "other"),
        "--part": Row(("--part", "scan", "--part", "start"), of("settings", "parts"), ("scan", "start")),
        "--rounds": Row(("--rounds", 3), of("settings", "rounds"), 3),
        "--n": Row(("--n", 3), of("settings", "images"), 3),
        "--size": Row(("--size", 64), of("settings", "size"), 64),
        "--steps": Row(("--steps", 3), of("settings", "steps"), 3),
        "--device": Row(("--device", "meta"), "device", META),
        "--follow-links": LINKS,
    },
    "bench editing": {
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--protocol": Row(("--protocol", "full"), of("protocol", "prompts_an_image"), 2),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--hardened": Row(("--hardened", "other"), of("hardened", "source"), "other"),
        "--twin": Row(("--twin", "other"), lambda call: getattr(call["twin"], "source", None), "other"),
        "--n": Row(("--n", 3), of("protocol", "images"), 3),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--follow-links": LINKS,
    },
    "bench all": {
        "--vae": Row((), of("hardened", "source"), "b", ("--vae", "b", *BASE["bench all"][2:])),
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--protocol": Row(("--protocol", "full"), lambda call: call["protocols"][1].images, 256),
        "--name": Row(("--name", "mine"), of("entry", "model"), "mine"),
        "--who": Row(("--who", "me"), of("entry", "who"), "me"),
        "--paper": Row(("--paper", "arXiv 1"), of("entry", "paper"), "arXiv 1"),
        "--leaderboard": Row(("--leaderboard", NEW), "leaderboard", NEW),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--follow-links": LINKS,
    },
    "bench poisoning": {
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--protocol": Row(("--protocol", "full"), of("protocol", "seeds"), (0, 1, 2)),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--hardened": Row(("--hardened", "other"), of("hardened", "source"), "other"),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--follow-links": LINKS,
    },
    "bench mimicry": {
        "--images": Row(("--images", NEW), "folder", NEW),
        "--out": Row(("--out", NEW), "out", NEW),
        "--protocol": Row(("--protocol", "full"), of("protocol", "seeds"), (0, 1, 2)),
        "--pipeline": Row(("--pipeline", "other"), of("pipeline", "source"), "other"),
        "--hardened": Row(("--hardened", "other"), of("hardened", "source"), "other"),
        "--device": Row(("--device", "meta"), of("pipeline", "device"), META),
        "--follow-links": LINKS,
    },
    "app": {
        "--pipeline": Row(("--pipeline", "other", "--hardened", "b"), of("choice", "pipeline"), "other"),
        "--vae": Row(("--vae", "other", "--hardened", "b"), of("choice", "vae"), "other"),
        "--hardened": Row(("--hardened", "other"), of("choice", "hardened"), "other"),
        "--clean": Row(("--clean", NEW), "clean", NEW),
        "--size": Row(("--size", 64), of("choice", "size"), 64),
        "--host": Row(("--host", "::1"), "host", "::1"),
        "--port": Row(("--port", 8000), "port", 8000),
        "--jobs": Row(("--jobs", 2), "jobs", 2),
        "--share": Row(("--share",), "share", True),
        "--max-pixels": Row(("--max-pixels", 7), limit, 7),
        "--device": Row(("--device", "meta"), of("choice", "device"), META),
    },
    "report": {
        "folders": Row((), "folders", [NEW, NEW], (NEW, NEW)),
        "--out": Row(("--out", NEW), "out", NEW),
    },
}
# Options that do their work before or in place of the function, with the test that shows it.
ELSEWHERE = {
    ("attack", "--list"): "test_the_list_of_attacks",
    ("attack", "--json"): "test_scripts_read_json",
    ("doctor", "--hub"): "test_the_doctor_asks_the_hub_only_if_told",
    ("doctor", "--json"): "test_scripts_read_json",
    ("models", "--json"): "test_scripts_read_json",
}


def options() -> Iterator[tuple[str, str]]:
    """Every command with each of its options and arguments."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*path, name))
        if not hasattr(command, "commands"):
            for parameter in command.params:
                is_option = parameter.param_type_name == "option"
                yield " ".join(path), max(parameter.opts, key=len) if is_option else parameter.name

    return below(typer.main.get_command(app), ())


def test_every_option_has_a_row():
    found = [(command, option) for command, option in options() if option != "--help"]
    rows = {(command, option) for command, own in ROWS.items() for option in own}
    assert sorted(found) == sorted(rows | ELSEWHERE.keys())


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Where the words of the table are."""
    tmp_path = tmp_path_factory.mktemp("options")
    places = {
        name: tmp_path / name.lower() for name in ("PHOTO", "FOLDER", "OUT", "NEW", "FRESH", "SETTINGS", "PROTOCOL", "SHARDS")
    }
    for name in ("FOLDER", "NEW"):
        for i in range(10):
            places[name].mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (i, i, i)).save(places[name] / f"{i}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo", "PNG")
    places["SHARDS"].mkdir()
    (places["SHARDS"] / "00000.tar").touch()
    places["SETTINGS"].write_text("steps = 77\n")
    places["PROTOCOL"].write_text('attacks = ["latent"]\neps = ["8/255"]\nimages = 77\n')
    return places


@pytest.fixture(scope="module")
def without() -> dict[tuple, dict[str, Any]]:
    """What the work of each command is called with where nothing but its base is said."""
    return {}


@pytest.fixture
def commands(monkeypatch) -> Commands:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10**6)
    monkeypatch.setattr("srlvae.training.tracking.find_spec", lambda name: True)
    monkeypatch.setattr("srlvae.links._followed", False)
    return Commands(monkeypatch)


def run(command: str, words: tuple[object, ...], places: dict[str, Path], commands: Commands) -> dict[str, Any]:
    """What the work of the command is called with."""
    return commands.run(*command.split(), *(places.get(str(word), word) for word in words))


@pytest.mark.parametrize(("command", "option"), [(command, option) for command, rows in ROWS.items() for option in rows])
def test_an_option_reaches_the_library(command, option, places, commands, without, monkeypatch):
    # The only device beside the CPU that is everywhere.
    monkeypatch.setattr("srlvae.cli.shared.WITHOUT_NUMBERS", ())
    row = ROWS[command][option]
    read = row.read if callable(row.read) else lambda call: call[str(row.read)]
    # An argument has other words in place of the base's.
    plain = BASE[command] if not row.words or row.base is None else row.base
    given = (*(row.base or BASE[command]), *row.words)
    wanted = located(row.wanted, places)
    if (command, plain) not in without:
        without[command, plain] = run(command, plain, places, commands)
    before = limit({}) if row.read is limit else True if row is LINKS else read(without[command, plain])
    assert read(run(command, given, places, commands)) == wanted != before


def located(wanted: object, places: dict[str, Path]) -> object:
    if isinstance(wanted, list):
        return [located(item, places) for item in wanted]
    return places.get(str(wanted), wanted) if isinstance(wanted, Path) else wanted
