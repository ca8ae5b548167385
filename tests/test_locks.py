"""One process at a time in a folder, and nothing is left of those that were cut off."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from safetensors import SafetensorError

from srlvae import files, locks
from srlvae.errors import InputError
from srlvae.files import PARTIAL, fill_folder, sweep, write_atomically, write_text
from srlvae.locks import hold, holds

ELSEWHERE = """
import sys
from pathlib import Path
from srlvae.errors import InputError
from srlvae.locks import hold
try:
    with hold(Path(sys.argv[1])):
        print("mine", flush=True)
        sys.stdin.read()
except InputError as error:
    print(error)
"""


def elsewhere(folder: Path) -> subprocess.Popen:
    """Another process that holds a folder until its input ends."""
    words = [sys.executable, "-c", ELSEWHERE, folder]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_another_process_is_kept_out_until_the_first_has_left_or_is_killed(tmp_path):
    with hold(tmp_path / "out"):
        said = elsewhere(tmp_path / "out").communicate()[0]
        assert f"{tmp_path / 'out'} is in use by another run of srlvae (process {os.getpid()} on" in said
        assert "give another folder" in said
    holder = elsewhere(tmp_path / "out")
    assert holder.stdout and holder.stdout.readline() == "mine\n"
    with pytest.raises(InputError, match=f"in use by another run of srlvae .process {holder.pid} on"), hold(tmp_path / "out"):
        pass
    holder.kill()
    holder.communicate()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [locks.name_of_lock()]
    with hold(tmp_path / "out"):
        pass
    assert not os.listdir(tmp_path / "out")
    with hold(tmp_path / "new" / "out"):
        pass
    assert not (tmp_path / "new").exists(), "nothing came about, so nothing is left"


def test_a_process_may_hold_a_folder_again_and_what_it_made_stays(tmp_path):
    @holds("out")
    def work(out: Path) -> str:
        write_text(out / "a.txt", "a")
        return "done"

    with hold(tmp_path / "deep" / "out"):
        assert work(tmp_path / "deep" / "out") == "done" and work(out=tmp_path / "deep" / "out" / ".") == "done"
        assert (tmp_path / "deep" / "out" / locks.name_of_lock()).exists()
    assert os.listdir(tmp_path / "deep" / "out") == ["a.txt"]


def test_processes_that_were_started_together_have_a_lock_each(tmp_path, monkeypatch):
    names = set()
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        names.add(locks.name_of_lock())
    assert len(names) == 2


@pytest.mark.parametrize("name", ["file", "file/below", "link"])
def test_what_is_no_folder_and_a_planted_link_are_refused(name, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / name
    if name == "link":
        out.mkdir()
        (out / locks.name_of_lock()).symlink_to(tmp_path / "file")
    with pytest.raises(InputError, match="cannot write to"), hold(out):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "lock", lambda descriptor: None)
    with pytest.warns(UserWarning, match="cannot lock files: let no second run write there"), hold(tmp_path / "out"):
        pass


def test_a_child_that_was_forked_off_does_not_keep_the_lock(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forks of a process with threads
        read, write = os.pipe()
        with hold(tmp_path / "out"):
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
    try:
        assert elsewhere(tmp_path / "out").communicate("")[0] == "mine\n"
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


# --- what was cut off


def test_what_was_cut_off_is_swept_and_what_is_at_work_or_of_others_is_left(tmp_path):
    old = [tmp_path / "deep" / f".srlvae-{'0' * 16}.partial.png", tmp_path / f".srlvae-{'1' * 16}.partial"]
    old[0].parent.mkdir()
    old[0].write_text("half")
    old[1].mkdir()
    (old[1] / "config.json").write_text("half")
    others = [tmp_path / ".partial", tmp_path / "a.partial.png", tmp_path / ".srlvae-1.partial.png"]
    for path in others:
        path.write_text("mine")
    link = tmp_path / f".srlvae-{'2' * 16}.partial.png"
    link.symlink_to(others[0])
    seen = []

    def write(partial: Path) -> None:
        sweep(tmp_path)
        seen.append(partial.exists())
        partial.write_text("new")

    write_atomically(tmp_path / "new.png", write)
    assert seen == [True] and (tmp_path / "new.png").read_text() == "new"
    assert not any(path.exists() for path in old) and all(path.read_text() == "mine" for path in others)
    with hold(tmp_path):
        pass
    assert link.is_symlink() and others[0].read_text() == "mine"


def test_a_name_cannot_be_guessed_and_is_new(tmp_path, monkeypatch):
    names = set()
    for _ in range(3):
        write_atomically(tmp_path / "a.png", lambda partial: names.add(partial.name) or partial.write_text("x"))
    assert len(names) == 3 and all(PARTIAL.fullmatch(name) for name in names)
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 16)
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / f".srlvae-{'0' * 16}.partial.png").symlink_to(target)
    with pytest.raises(InputError, match="cannot write .*a.png .File exists"):
        write_atomically(tmp_path / "a.png", lambda partial: partial.write_text("stolen"))
    assert target.read_text() == "mine" and (tmp_path / "a.png").read_text() == "x"


def test_a_folder_is_whole_when_its_last_file_is_there(tmp_path, monkeypatch):
    order: list[str] = []
    publish = files.publish
    monkeypatch.setattr(files, "publish", lambda partial, path, mode: order.append(path.name) or publish(partial, path, mode))

    def write(folder: Path) -> None:
        for name in ("config.json", "weights.bin", "unet/config.json"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
            (folder / name).chmod(0o600)

    fill_folder(tmp_path / "out", write, last="config.json")
    assert order == ["config.json", "weights.bin", "config.json"]
    assert (tmp_path / "out" / "unet" / "config.json").read_text() == "unet/config.json"
    (tmp_path / "plain").touch()
    assert (tmp_path / "out" / "weights.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert not [path for path in (tmp_path / "out").rglob("*") if PARTIAL.fullmatch(path.name)]


# --- a full disk


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*a.txt \(No space left on device\). What was there is unchanged"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_what_safetensors_raises_on_a_full_disk_is_a_sentence_too(tmp_path):
    def full(_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(InputError, match="cannot write .*a.safetensors .*No space left"):
        write_atomically(tmp_path / "a.safetensors", full)
    with pytest.raises(SafetensorError, match="header"):
        write_atomically(tmp_path / "a.safetensors", lambda _: (_ for _ in ()).throw(SafetensorError("a bad header")))
