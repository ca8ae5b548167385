"""One rule for all commands: they go on to the end, name each file that they left out, and say so in their exit code."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broken import make_folder, make_names, picture
from conftest import small_kl
from heard import Heard
from pipelines import little
from srlvae import cli
from srlvae.attacks.files import attack_files
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.photographs import load_photographs
from srlvae.edits import edit_files
from srlvae.errors import InputError
from srlvae.finetune import FinetuneConfig, finetune
from srlvae.harden import harden, preset
from srlvae.images import LeftOut, find_images
from srlvae.images.sources import find_sources
from srlvae.models.edit_settings import EditSettings
from srlvae.scan import Encoders, scan
from srlvae.trust.cells import read_cell

WHOLE = 6
TUNING = FinetuneConfig(steps=1, batch_size=2, warmup=1, precision="no")
HARDENING = preset("cpu").changed(
    steps=1, batch_size=2, micro_batch=2, resolution=16, features="none", precision="no", held_out=2, workers=0
)


def other():
    vae = small_kl()
    vae.model.encoder.conv_in.weight.mul_(1.2)
    return vae


def bench(images: Path, out: Path, heard: Heard) -> None:
    """What a benchmark does with a folder of photographs."""
    left_out = LeftOut(heard)
    try:
        load_photographs(images, 10**6, 24, 0, left_out)
    finally:
        left_out.write(out)


COMMANDS: dict[str, Callable] = {
    "attack": lambda images, out, heard: attack_files(
        prepare(Request("latent", steps=1), small_kl()), [images], out, listener=heard
    ),
    "edit": lambda images, out, heard: edit_files(
        little(small_kl()), [images], "a cat", out, EditSettings(steps=2, guidance=1.0), listener=heard
    ),
    "finetune": lambda images, out, heard: finetune(little(small_kl()), images, out, TUNING, prompt="a cat", listener=heard),
    "scan": lambda images, out, heard: scan(Encoders(small_kl(), other()), images, out, heard),
    "harden": lambda images, out, heard: harden(small_kl(), images, out, HARDENING, listener=heard),
    "bench": lambda images, out, heard: bench(images, out, heard),
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def table(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "left-out.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {Path(read_cell(row["file"])).name: (row["left_out"], row["reason"]) for row in csv.DictReader(file)}


@every_command
def test_a_listener_ends_a_command_at_the_first(command, tmp_path):
    class Strict(Heard):
        def left_out(self, file, reason, whole=True):
            super().left_out(file, reason, whole)
            if whole:
                raise InputError(f"{file}: {reason}")

    heard = Strict()
    with pytest.raises(InputError):
        command(make_folder(tmp_path / "in", WHOLE), tmp_path / "out", heard)
    assert len([file for file, _, whole in heard.omissions if whole]) == 1


@every_command
def test_a_folder_of_nothing_but_broken_files_is_an_error_that_names_one(command, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"[ab]\.png"):
        command(tmp_path / "in", tmp_path / "out", Heard())


@every_command
def test_a_table_names_files_as_they_are_called_and_has_no_formula(command, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for i in range(8):
        picture(i).save(tmp_path / "in" / f"{i}.png")
    made = make_names(tmp_path / "in", lambda path, number: path.write_bytes(b"broken"))
    monkeypatch.chdir(tmp_path)
    command(Path("in"), tmp_path / "out", Heard())
    assert {name for name in table(tmp_path / "out")} == set(made)
    with (tmp_path / "out" / "left-out.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.search(r"(\A|[,;\t\r\n])[=+@\t\r-]", cell)]


def test_an_empty_folder_among_several_paths_ends_no_run(tmp_path):
    images, left_out = make_folder(tmp_path / "in", WHOLE), LeftOut()
    (tmp_path / "empty").mkdir()
    found = find_sources([tmp_path / "empty", images], tmp_path / "out", left_out)
    assert found and [Path(one.file).name for one in left_out.files if "no images" in one.reason] == ["empty"]
    with pytest.raises(InputError, match="no images below"):
        find_sources([tmp_path / "empty"], tmp_path / "out")


def test_what_is_mended_is_used_by_the_next_run(tmp_path):
    images, out, attack = make_folder(tmp_path / "in", 4), tmp_path / "out", COMMANDS["attack"]
    before = len(attack(images, out, Heard()))
    picture().save(images / "cut.png")
    assert len(attack(images, out, Heard())) == before + 1
    found = table(out)
    # What was said of a part is still said, though the file is not read again.
    assert "cut.png" not in found and found["film.gif"][0] == "a part"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be read")
def test_what_may_not_be_read_is_named(tmp_path):
    for name in ("a.png", "b.png", "closed/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture().save(tmp_path / name)
    (tmp_path / "b.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    left_out = LeftOut()
    assert [path.name for path in find_images(tmp_path, left_out)] == ["a.png", "b.png"]
    assert [Path(one.file).name for one in left_out.files] == ["closed"]
    COMMANDS["attack"](tmp_path, tmp_path / "out", Heard())
    assert "Permission denied" in table(tmp_path / "out")["b.png"][1]
    (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    for name in ("a.png", "closed/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture().save(tmp_path / name)
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    left_out = LeftOut()
    assert [path.name for path in find_images(tmp_path, left_out)] == ["a.png"]
    (one,) = left_out.files
    assert one.file.endswith("closed") and one.reason == "a folder that cannot be opened (Permission denied)"


# --- the command line


def run(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["srlvae", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_exit_code_and_the_last_lines_say_what_was_left_out(tmp_path, monkeypatch, capsys):
    (tmp_path / "in" / "[red]").mkdir(parents=True)
    picture().save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "[red]" / "b.png").write_bytes(b"")
    (tmp_path / "in" / "notes.psd").write_text("")
    small_kl().save(tmp_path / "vae")
    words = ("attack", "latent", tmp_path / "in", "--vae", tmp_path / "vae", "--steps", 1, "--out", tmp_path / "out")
    assert run(monkeypatch, *words, "--strict") == 2
    assert "[red]/b.png" in capsys.readouterr().err.replace("\n", "")
    assert run(monkeypatch, *words) == 3
    *_, others, named, last = capsys.readouterr().out.replace("\n(1 .psd)", " (1 .psd)").splitlines()
    assert "[red]/b.png: not a readable image (the file is empty)" in named
    assert last.startswith("Left out: 1 files or folders, and parts of 0; all are in") and last.endswith("left-out.csv")
    assert "1 file (1 .psd)" in others
    (tmp_path / "in" / "[red]" / "b.png").unlink()
    assert run(monkeypatch, *words) == 0 and not (tmp_path / "out" / "left-out.csv").exists()


def test_a_legitimate_scan_of_many_pixels_is_let_in(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 400)
    picture().save(tmp_path / "a.png")
    small_kl().save(tmp_path / "vae")
    words = ("attack", "latent", tmp_path / "a.png", "--vae", tmp_path / "vae", "--steps", 1, "--out", tmp_path / "out")
    assert run(monkeypatch, *words) == 2
    assert "--max-pixels lets larger ones in" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, *words, "--max-pixels", 600) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("attack", "latent", "IN"),
        ("edit", "IN", "--prompt", "a cat"),
        ("finetune", "--images", "IN", "--prompt", "a cat"),
        ("scan", "IN", "--clean", "IN"),
        ("harden", "tiny", "--images", "IN"),
        ("generate", "--prompt", "a cat"),
        ("apply", "tiny-srl", "--to", "tiny"),
        ("quickstart",),
        ("report", "IN"),
        ("bench", "reconstruction", "--original", "tiny", "--hardened", "tiny-srl", "--images", "IN"),
        ("bench", "hardening", "IN", "--original", "tiny", "--images", "IN"),
        ("bench", "editing", "--images", "IN"),
        ("bench", "poisoning", "--images", "IN"),
        ("bench", "mimicry", "--images", "IN"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_outputs_are_tried_before_anything_is_computed(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "a.png")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("srlvae.models.vae.load_vae", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr("srlvae.models.load.load_pipeline", lambda *_: pytest.fail("a model was loaded"))
    given = [tmp_path / "in" if word == "IN" else word for word in words]
    assert run(monkeypatch, *given, "--out", tmp_path / "file" / "out") == 2
    assert "cannot write to" in " ".join(capsys.readouterr().err.split())
