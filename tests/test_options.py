"""Every option of every command with values that nobody means: a sentence and exit code 2, or the command does its work."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.models import OptionInfo

import srlvae
from broken import picture
from conftest import small_kl
from pipelines import little
from srlvae.cli import app, main

# Seconds after which a command that took the value is stopped: it has begun its work.
SECONDS = 1.0
# What a command may allocate beyond what is there: a number must not fill the memory.
MEMORY = 4 * 2**30


def commands() -> dict[tuple[str, ...], Any]:
    """The function of every command, by its words."""
    groups = [((), app), *(((str(group.name),), group.typer_instance) for group in app.registered_groups)]
    found = {}
    for words, of in groups:
        for command in of.registered_commands:
            found[(*words, command.name or command.callback.__name__)] = command.callback
    return found


def options(command: Any) -> dict[str, type]:
    """The names of a command's options and the types of their values; switches have none."""
    found = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        hint, *about = get_args(parameter.annotation)
        if about and isinstance(about[0], OptionInfo) and (kind := kind_of(hint)) is not bool:
            # Typer takes a name that is given first for the default, until it looks closer.
            own = [word for word in (about[0].default, *(about[0].param_decls or ())) if str(word).startswith("--")]
            found[str(own[0]) if own else "--" + name.replace("_", "-")] = kind
    return found


def kind_of(hint: Any) -> type:
    """The type of a value of `T`, `T | None`, `list[T]`, or `list[T] | None`."""
    if get_origin(hint) is Literal:
        return str
    parts = [part for part in get_args(hint) if part is not type(None)]
    return kind_of(parts[0]) if parts else hint


OPTIONS = [(words, option, kind) for words, command in commands().items() for option, kind in options(command).items()]
WORDS = (
    "x",
    "-1",
    "0",
    "../..",
    "a/b",
    "nowhere.toml",
    "[/red]",
    "\x1b[31m",
    "\udcff",
    "né",
    "=1",
    "hf://",
    "a@b:c",
    "x" * 300,
)
NUMBERS = ("nan", "inf/1", "1/0", "8", "-8/255", "1e-9", "0/0")
VALUES: dict[type, st.SearchStrategy[str]] = {
    int: st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**30, -(2**63), "", "1.5", "one"]).map(str) | st.integers().map(str),
    float: st.sampled_from(["nan", "inf", "-inf", "-1", "0", "1e-320", "1e308", "", "one"]) | st.floats().map(str),
    str: st.sampled_from([*WORDS, *NUMBERS, "", "cpu:99", "cuda:99", "meta"]) | st.text("ab/.:@0[", max_size=5),
    Path: st.sampled_from([*WORDS, "", "file.txt", "empty", "photographs", "photographs/0.png", "pipe"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with small models and pictures, and with results of each kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    # Now, as an import that is stopped in its middle leaves half a module.
    for module in pkgutil.walk_packages(srlvae.__path__, "srlvae."):
        if module.name != "srlvae.__main__":
            importlib.import_module(module.name)
    vae = small_kl()
    vae.save(folder / "vae")
    little(vae).pipe.save_pretrained(folder / "pipe")
    vae.model.encoder.conv_in.weight.mul_(1.2)
    vae.save(folder / "other")
    (folder / "photographs").mkdir()
    for i in range(6):
        picture(i, 64).save(folder / "photographs" / f"{i}.png")
    Image.new("L", (64, 64), 255).save(folder / "mask.png")
    (folder / "file.txt").write_text("text")
    (folder / "empty").mkdir()
    (folder / "result").mkdir()
    (folder / "result" / "editing.json").write_text(json.dumps({"rows": [{}]}))
    return folder


def base(words: tuple[str, ...], out: Path) -> list[str]:
    """The shortest work of a command that there is, in the folder of `place`."""
    vaes = ["--original", "vae", "--hardened", "other"]
    photographs = ["--images", "photographs"]
    known: dict[tuple[str, ...], list[str]] = {
        ("quickstart",): [],
        ("harden",): ["vae", *photographs, *"--features none --steps 1 --batch-size 1 --resolution 32 --workers 0".split()],
        ("apply",): ["vae", "--to", "vae"],
        ("export",): ["vae", "--to", "diffusers"],
        ("push",): ["empty", "a/b"],
        ("attack",): ["latent", "photographs/0.png", "--vae", "vae", "--steps", "1"],
        ("generate",): ["--prompt", "a", "--pipeline", "pipe", "--n", "1", "--steps", "1"],
        ("edit",): ["photographs/0.png", "--prompt", "a", "--pipeline", "pipe", "--steps", "1", "--strength", "1"],
        ("finetune",): [*photographs, "--pipeline", "pipe", "--prompt", "a", "--steps", "1", "--batch-size", "1"],
        ("scan",): ["photographs", "--clean", "photographs", *vaes, "--rate", "0.2"],
        ("report",): ["result"],
        ("models",): [],
        ("doctor",): [],
        # Without its models it does not begin to serve.
        ("app",): ["--hardened", "nowhere"],
        ("bench", "reconstruction"): [*vaes, *photographs, "--protocol", "quick", "--steps", "1", "--n", "2", "--clean-n", "2"],
        ("bench", "hardening"): ["empty", "--original", "vae", *photographs],
        ("bench", "speed"): [
            *photographs,
            "--vae",
            "vae",
            "--hardened",
            "other",
            *"--part scan --n 2 --rounds 1 --size 32".split(),
        ],
        ("bench", "editing"): [*photographs, "--pipeline", "pipe", "--hardened", "other", "--n", "2"],
        ("bench", "all"): [*photographs, "--pipeline", "pipe", "--vae", "other"],
        ("bench", "poisoning"): [*photographs, "--pipeline", "pipe", "--hardened", "other"],
        ("bench", "mimicry"): [*photographs, "--pipeline", "pipe", "--hardened", "other"],
    }
    return [*words, *known[words], *([] if words in (("push",), ("app",), ("models",), ("doctor",)) else ["--out", str(out)])]


def test_every_command_and_its_options_are_tried():
    assert all(base(words, Path("out")) for words in commands())
    assert len(OPTIONS) > 80 and {kind for _, _, kind in OPTIONS} <= VALUES.keys()


def try_value(words: tuple[str, ...], option: str, value: str, place: Path, out: Path) -> None:
    """Run a command in a process of its own, which is stopped once it has begun its work."""
    said, child = out.with_name("said"), os.fork()
    if child == 0:
        os._exit(run([*base(words, out), option, value], place, said))
    until = time.monotonic() + SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return
    code, errors = os.waitstatus_to_exitcode(ended[1]), said.read_text(encoding="utf-8", errors="surrogateescape")
    assert code in (0, 2, 3) and "Traceback" not in errors, (code, errors)
    assert code != 2 or "rror" in errors


def run(words: list[str], place: Path, said: Path) -> int:
    """The exit code of a command in the folder `place`, 99 for an error that it does not expect; its errors go to `said`."""
    with said.open("w", encoding="utf-8", errors="surrogateescape") as errors:
        try:
            os.chdir(place)
            os.environ["HF_HUB_OFFLINE"] = "1"
            sys.argv, sys.stdout, sys.stderr = ["srlvae", *words], errors, errors
            pages = Path("/proc/self/statm")
            if pages.exists():
                used = int(pages.read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
            main()
        except SystemExit as stopped:
            return stopped.code if isinstance(stopped.code, int) else 0
        except BaseException:
            traceback.print_exc(file=errors)
            return 99
    return 0


def tried(examples: int, derandomize: bool):
    checks: Any = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow], "database": None}
    cases = st.sampled_from(OPTIONS).flatmap(lambda case: st.tuples(st.just(case[0]), st.just(case[1]), VALUES[case[2]]))

    def decorate(test):
        limits = settings(max_examples=examples, derandomize=derandomize, deadline=None, **checks)
        return limits(given(case=cases)(test))

    return decorate


@tried(40, derandomize=True)
def test_a_value_gets_a_sentence_or_work(case, place, tmp_path_factory):
    try_value(*case, place, tmp_path_factory.mktemp("out") / "out")


@pytest.mark.slow
@tried(1500, derandomize=False)
def test_any_value_gets_a_sentence_or_work(case, place, tmp_path_factory):
    try_value(*case, place, tmp_path_factory.mktemp("out") / "out")
