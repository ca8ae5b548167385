"""What README, CONTRIBUTING and the pages under docs/ tell readers to type: a fenced block runs, or has a reason why not."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from reached import Commands
from srlvae.attacks import ATTACKS
from srlvae.attacks.attack import Attack, Preset
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.files import attack_files
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.cli import app
from srlvae.config import read_toml
from srlvae.harden import HardenConfig
from srlvae.models.vae import load_vae

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
# What the lines of a block need to run in seconds and without a network.
QUICK = {
    '"madebyollin/taesd"': '"tiny"',
    'preset("cpu")': 'preset("cpu", steps=1, batch_size=2, resolution=32, features="none", held_out=2)',
}
# Blocks that cannot run here, by a word in them.
REASONS = {"StableDiffusionImg2ImgPipeline.from_pretrained": "needs Stable Diffusion 1.5, some gigabytes from the hub"}
# Commands that are not srlvae's: those of make are looked up in the Makefile, and recipes take hours.
OTHERS = ("make", "python", "pip")
# A scan for a rate of 0.01 wants as many clean images.
CLEAN = 99


def blocks(language: str) -> list[tuple[str, str]]:
    """The fenced blocks of a language with the page that each is on."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [
            (page.name, block) for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if kind == language
        ]
    return found


def lines(block: str) -> list[str]:
    """The commands of a block, one a line, without remarks."""
    # What torchrun starts is the same command.
    joined = re.sub(r"^torchrun .*? -m srlvae", "srlvae", block.replace("\\\n", " "), flags=re.M)
    return [line for line in joined.splitlines() if line.strip()]


COMMANDS = [(page, line) for page, block in blocks("sh") for line in lines(block)]
# Commands that only print.
PRINTS = ("srlvae doctor", "srlvae models", "srlvae attack --list")
SNIPPETS = blocks("python")
# The protocol of one's own, among settings of hardening.
(PROTOCOL,) = (block for _, block in blocks("toml") if "prompts" in block)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A working folder with the photographs that the examples speak of."""
    for name in ("photographs", "others", "downloads", "more-downloads", "own-photographs", "test", "dogs", "attacked"):
        (tmp_path / name).mkdir()
        for i in range(CLEAN if name == "own-photographs" else 20):
            levels = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
            Image.fromarray(levels.numpy()).resize((64, 64)).save(tmp_path / name / f"{i}.png")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "photo.png")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.tar").touch()
    (tmp_path / "settings.toml").write_text("steps = 77\n")
    (tmp_path / "mine.toml").write_text(PROTOCOL)
    add_brightness(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_brightness(patch: pytest.MonkeyPatch) -> None:
    """Add the attack of the page on attacks of one's own as that page says."""
    function, entry = (block for page, block in SNIPPETS if page == "attack.md")
    module = types.ModuleType("srlvae.attacks.papers.brightness")
    exec(compile(function, "attack.md", "exec"), module.__dict__)
    patch.setitem(sys.modules, module.__name__, module)
    (attack,) = eval(f"{{{entry}}}", {"Attack": Attack, "Preset": Preset, "Ball": Ball}).items()
    patch.setitem(ATTACKS, *attack)


def test_every_block_is_of_a_kind_that_is_tried():
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.M)}
    assert kinds <= {"sh", "python", "toml", "text"} and len(COMMANDS) > 20 and len(SNIPPETS) >= 4
    assert all(shlex.split(line)[0] in ("srlvae", *OTHERS) for _, line in COMMANDS)
    # No reason without a block.
    assert all(any(word in block for _, block in SNIPPETS) for word in REASONS)


@pytest.mark.parametrize(
    ("page", "line"), [(p, c) for p, c in COMMANDS if c.startswith("srlvae") and not c.startswith(PRINTS)], ids=str
)
def test_a_command_reaches_the_library(page, line, world, monkeypatch):
    assert Commands(monkeypatch).run(*shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS} - {"command-line.md"}))
def test_no_two_commands_of_a_page_write_to_one_folder(page):
    """The second would be refused, and so would Python that writes where a command wrote. A scan takes another rate."""
    lines = {line for of, line in COMMANDS if of == page and line.startswith("srlvae") and not line.startswith("srlvae scan")}
    outs = [found[1] for line in lines if (found := re.search(r"--out (\S+)", line))]
    outs += [found for of, block in SNIPPETS if of == page for found in re.findall(r'harden\(.*?"([\w-]+)", preset', block)]
    assert len(outs) == len(set(outs)), sorted(outs)


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c in COMMANDS if c.startswith(PRINTS)], ids=str)
def test_a_command_prints(page, line, monkeypatch):
    monkeypatch.setattr("srlvae.models.hub.online", lambda: False)
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0 and len(result.output.splitlines()) > 5


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c in COMMANDS if not c.startswith("srlvae")], ids=str)
def test_what_another_command_is_given_is_there(page, line):
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(words) <= set(targets)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        asked = re.search(r"[\w.]\[(.*)\]", line)
        assert set(asked[1].split(",")) <= set(extras) if asked else words == ["install", "."]
    else:
        recipe = (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(word[2:].replace("-", "_") in recipe for word in words if word.startswith("--"))


@pytest.mark.parametrize(
    ("page", "block"), [(p, b) for p, b in SNIPPETS if p in ("README.md", "harden.md")], ids=lambda value: value[:20]
)
def test_a_snippet_of_the_readme_runs(page, block, world, capsys):
    for slow, quick in QUICK.items():
        assert slow in block
        block = block.replace(slow, quick)
    exec(compile(block, page, "exec"), {})
    assert load_vae("tiny").fingerprint() in capsys.readouterr().out and load_vae(world / "my-taesd-2").channels == 4


def test_an_attack_is_added_as_its_page_says(world, vae):
    (record,) = attack_files(prepare(Request("brightness", steps=3), vae), [world / "photo.png"], world / "out")
    first, last = record["objective"]
    assert last < first and record["effective_eps"] != "0/255"


def test_settings_in_a_file_are_settings(tmp_path):
    for _, block in blocks("toml"):
        if block == PROTOCOL:
            continue
        (tmp_path / "settings.toml").write_text(block)
        assert read_toml(tmp_path / "settings.toml", HardenConfig).check() != HardenConfig()


def test_a_metric_is_written_as_its_page_says():
    (block,) = (block for page, block in SNIPPETS if page == "metric.md")
    names: dict[str, Any] = {}
    exec(compile(block, "metric.md", "exec"), names)
    x = torch.full((2, 3, 16, 16), 0.5)
    y = x.clone()
    y[1, 2, 3, 4] += 0.25
    assert names["largest_change"](x, y).tolist() == [0.0, 0.25]


def test_what_does_not_run_has_a_reason():
    elsewhere = [block for page, block in SNIPPETS if page not in ("README.md", "harden.md", "attack.md", "metric.md")]
    assert all(any(word in block for word in REASONS) for block in elsewhere)
