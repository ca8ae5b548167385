"""A file is whole or as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from srlvae.files import write_atomically, write_json
from srlvae.words import counted


def write_half_and_fail(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", write_half_and_fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failing_writer_leaves_no_new_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", write_half_and_fail)
    assert os.listdir(tmp_path) == []


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("new")
        assert target.read_text() == "old"

    write_atomically(target, write)
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_writer_sees_the_suffix_by_which_formats_are_chosen(tmp_path):
    write_atomically(tmp_path / "a.png", lambda path: path.write_text(path.suffix))
    assert (tmp_path / "a.png").read_text() == ".png"


def test_missing_folders_are_made(tmp_path):
    write_atomically(tmp_path / "deep/er/a.txt", lambda path: path.write_text("x"))
    assert (tmp_path / "deep/er/a.txt").read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_private_file_becomes_readable_as_any_new_file(tmp_path):
    def write(path: Path) -> None:
        path.touch()
        path.chmod(0o600)

    write_atomically(tmp_path / "a.txt", write)
    (tmp_path / "plain.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_follows_the_umask_and_leaves_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.txt", Path.touch)
    finally:
        left = os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode and left == umask


def test_json_comes_back_as_it_was(tmp_path):
    value = {"eps": 8 / 255, "name": "λ · ℓ∞", "rows": [1, None, True]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert (tmp_path / "a.json").read_text() == "1\n"


@pytest.mark.parametrize(
    ("number", "noun", "said"), [(1, "file", "1 file"), (0, "file", "0 files"), (2000, "process", "2,000 processes")]
)
def test_a_number_has_its_noun(number, noun, said):
    assert counted(number, noun) == said
