"""`srlvae --version`, `srlvae doctor` and `srlvae models`."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srlvae import provenance, zoo
from srlvae.cli import app


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


def test_all_bundled_models_are_listed():
    listed = said("models")
    assert all(name in listed for name in (*zoo.names(), *zoo.encoder_names())) and "23.1" in listed
