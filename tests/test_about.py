"""`srlvae --version`, `srlvae doctor` and `srlvae models`."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from srlvae import provenance, zoo
from srlvae.attacks import ATTACKS
from srlvae.cli import app
from srlvae.cli.shared import EXAMPLES
from srlvae.harden.settings import PRESETS, Objective


def said(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_version():
    assert said("--version") == f"srlvae {version('srlvae')}\n"


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(provenance, "EXTRAS", {"app": ("the page", ("no_such_module",)), "report": ("pages", ("json",))})
    assert provenance.missing_extras() == {"app": ("the page", ["no_such_module"])}
    assert "pip install 'srlvae[app]'" in said("doctor")


def test_the_doctor_asks_the_hub_only_if_told(monkeypatch):
    monkeypatch.setattr("srlvae.models.hub.online", lambda: pytest.fail("asked"))
    assert "hub" not in said("doctor").splitlines()[-1]
    monkeypatch.setattr("srlvae.models.hub.online", lambda: False)
    assert "hub: cannot be reached" in said("doctor", "--hub")


def test_every_extra_for_users_is_known():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - {"dev", "docs", "recipes"} == set(provenance.EXTRAS)
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split("## Extras")[1]
    assert all(f"`{extra}`" in table for extra in provenance.EXTRAS)


def test_all_bundled_models_are_listed():
    listed = said("models")
    assert all(name in listed for name in (*zoo.names(), *zoo.encoder_names())) and "21.29 dB → 21.93 dB" in listed
    assert zoo.ABOUT.keys() == {*zoo.names(), *zoo.encoder_names()}


def test_scripts_read_json(monkeypatch):
    monkeypatch.setattr("srlvae.models.hub.online", lambda: True)
    about = json.loads(said("doctor", "--hub", "--json"))
    assert about["torch"] == version("torch") and about["hub"] is True and about["free_memory"] > 1e6
    assert "hub" not in json.loads(said("doctor", "--json"))
    models = {model["name"]: model for model in json.loads(said("models", "--json"))}
    assert "PSNR" in models["tiny-srl"]["scores"][2]["measure"] and models["tiny"]["scores"] == []
    attacks = {attack["name"]: attack for attack in json.loads(said("attack", "--list", "--json"))}
    assert attacks.keys() == ATTACKS.keys()
    paper = attacks["photoguard-encoder"]["presets"]["paper"]
    assert (paper["budget"], paper["steps"]) == ("16/255", 200)


def commands() -> list[tuple[str, ...]]:
    """The words of every command."""

    def below(command, words):
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, (*words, name))
        if not hasattr(command, "commands"):
            yield words

    return list(below(typer.main.get_command(app), ()))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_into_80_columns_and_has_examples(words):
    result = CliRunner().invoke(app, [*words, "--help"], terminal_width=80)
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in lines[2]
    start = next(i for i, line in enumerate(lines) if line.strip() == EXAMPLES)
    assert re.search(rf"(srlvae|-m srlvae) {' '.join(words)}", lines[start + 1])


def test_a_list_of_commands_shows_whole_sentences():
    for words in ((), ("bench",)):
        listed = CliRunner().invoke(app, [*words, "--help"], terminal_width=80).output.split("Commands:")[1]
        assert all(line.endswith(".") and not line.endswith("...") for line in listed.splitlines() if line)


def test_help_of_harden_has_the_defaults_of_the_presets():
    said_of = {p.name: p.help for p in typer.main.get_command(app).commands["harden"].params if hasattr(p, "help")}
    for name in ("steps", "batch_size", "resolution", "checkpoint_every", "workers"):
        cpu, gpu = (getattr(PRESETS[preset], name) for preset in ("cpu", "default"))
        assert f"[cpu: {cpu}, default: {gpu}]" in said_of[name]
    for name, value in (("held_out", 32), ("seed", 0), ("features", "efficientnet-lite0"), ("learning_rate", 2e-4)):
        assert all(getattr(one, name) == value for one in PRESETS.values())
        assert f"[default: {'2e-4' if name == 'learning_rate' else value}]" in said_of[name]
    cpu, gpu = (PRESETS[preset].objective.closeness for preset in ("cpu", "default"))
    assert f"[cpu: {cpu}, default: {gpu}]" in said_of["closeness"]
    assert max(attack.eps for attack in Objective().attacks) == 16 / 255 and "up to 16/255" in said_of["eps"]


@pytest.mark.parametrize(("typed", "found"), [("srlvae att", "attack"), ("srlvae attack mist-f", "mist-fused")])
def test_the_shell_completes_commands_and_attacks(typed, found, monkeypatch):
    monkeypatch.setenv("_SRLVAE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert found in CliRunner().invoke(app, prog_name="srlvae").output.split()
