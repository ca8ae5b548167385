"""The command line: what a user types, and what bad input gets: exit code 2, a sentence, nothing written."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from conftest import small_kl
from srlvae.cli import main
from srlvae.images import read_image


@pytest.fixture
def folder(tmp_path):
    small_kl().save(tmp_path / "vae")
    (tmp_path / "photographs").mkdir()
    for i in range(12):
        levels = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        Image.fromarray(levels.numpy()).resize((64, 64)).save(tmp_path / "photographs" / f"{i}.png")
    return tmp_path


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["srlvae", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def harden_words(folder, *more: object) -> tuple[object, ...]:
    words = ("--images", folder / "photographs", "--out", folder / "out", "--preset", "cpu", "--features", "none")
    return "harden", folder / "vae", *words, "--resolution", 32, "--steps", 2, "--batch-size", 2, "--precision", "no", *more


def test_harden_then_attack(folder, monkeypatch, capsys):
    assert run(monkeypatch, *harden_words(folder)) == 0
    assert "bench reconstruction" in capsys.readouterr().out
    target = folder / "attacked"
    words = ("attack", "latent", folder / "photographs" / "0.png", "--vae", folder / "out", "--eps", "8/255", "--steps", 3)
    assert run(monkeypatch, *words, "--out", target) == 0
    moved = (read_image(target / "0.png") - read_image(folder / "photographs" / "0.png")).abs().max() * 255
    assert 0 < moved.round() <= 8
    assert json.loads((target / "0.json").read_text())["effective_eps"] == f"{moved.round():.0f}/255"


@pytest.mark.parametrize(
    "more, message",
    [
        (("--eps", "8"), "8/255"),
        (("--eps", "eight"), "fraction"),
        (("--images", "nowhere"), "no such folder"),
        (("--resolution", "30"), "multiples of 4"),
        (("--preset", "gpu"), "unknown preset"),
        (("--features", "vgg"), "must be one of"),
        (("--config", "nowhere.toml"), "cannot read settings"),
    ],
)
def test_bad_words_exit_with_2_and_write_nothing(folder, monkeypatch, capsys, more, message):
    assert run(monkeypatch, *harden_words(folder, *more)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (folder / "out").exists()


def test_a_folder_without_images_or_a_vae_exits_with_2(folder, monkeypatch, capsys):
    (folder / "empty").mkdir()
    assert run(monkeypatch, *harden_words(folder, "--images", folder / "empty")) == 2
    assert "no images below" in capsys.readouterr().err.replace("\n", " ")
    assert run(monkeypatch, "harden", folder / "empty", *harden_words(folder)[2:]) == 2
    assert "no config.json" in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_exits_with_2(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srlvae.harden.checkpoint.save_file", full)
    assert run(monkeypatch, *harden_words(folder)) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list((folder / "out").rglob("*.partial*"))


def test_the_list_of_attacks(monkeypatch, capsys):
    assert run(monkeypatch, "attack", "--list") == 0
    assert "photoguard-encoder" in capsys.readouterr().out
