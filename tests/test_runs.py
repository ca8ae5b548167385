"""Whose a folder is: free, the same run's, another's, somebody else's."""

from __future__ import annotations

import json
import shutil

import pytest

from srlvae.errors import InputError
from srlvae.locks import hold
from srlvae.runs import claim, earlier_record, end

RUN = {"vae": "abc", "config": {"seed": 0, "workers": 2}, "eps": (8, 15)}


def test_a_free_folder_is_taken_and_the_same_run_goes_on(tmp_path):
    out = tmp_path / "new" / "out"
    assert claim(out, "state/run.json", RUN) is False
    assert json.loads((out / "state" / "run.json").read_text()) == json.loads(json.dumps(RUN))
    (out / "work.bin").write_bytes(b"1")
    assert claim(out, "state/run.json", RUN) is True


def test_what_changes_nothing_may_be_another_and_the_record_follows(tmp_path):
    claim(tmp_path, "run.json", RUN)
    (tmp_path / "work.bin").write_bytes(b"1")
    other = RUN | {"config": {"seed": 0, "workers": 8}}
    assert claim(tmp_path, "run.json", other, free=("workers",)) is True
    assert json.loads((tmp_path / "run.json").read_text())["config"]["workers"] == 8
    with pytest.raises(InputError, match=r"other settings: config\.workers was 8, is 2; give a new folder"):
        claim(tmp_path, "run.json", RUN)


def test_another_run_is_named_and_touches_nothing(tmp_path):
    claim(tmp_path, "run.json", RUN)
    (tmp_path / "work.bin").write_bytes(b"1")
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(InputError, match=r"config\.seed was 0, is 1; vae was abc, is None"):
        claim(tmp_path, "run.json", {"config": {"seed": 1, "workers": 2}, "eps": [8, 15]})
    assert (tmp_path / "run.json").read_bytes() == before


def test_of_many_differences_three_are_named(tmp_path):
    claim(tmp_path, "run.json", {name: 0 for name in "abcde"})
    (tmp_path / "work.bin").write_bytes(b"1")
    with pytest.raises(InputError, match="b was 0, is 1; c was 0, is 1; and 2 more; give a new folder"):
        claim(tmp_path, "run.json", {name: 1 for name in "abcde"})


def test_a_record_alone_is_a_free_folder(tmp_path):
    claim(tmp_path, "run.json", RUN)
    assert claim(tmp_path, "run.json", {"vae": "other"}, resume=False) is False


def test_a_run_inside_is_a_run_of_its_own(tmp_path):
    claim(tmp_path / "clean", "run.json", RUN)
    (tmp_path / "clean" / "work.bin").write_bytes(b"1")
    assert claim(tmp_path, "run.json", RUN | {"vae": "other"}) is False


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("thesis.txt", {}, "something else in it"),
        ("done.json", {"finished": "done.json"}, "holds a finished run"),
    ],
)
def test_what_is_there_is_left_alone(tmp_path, name, options, message):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=message):
        claim(tmp_path, "run.json", RUN, **options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_interrupted_run_is_left_alone_where_it_is_not_to_go_on(tmp_path):
    claim(tmp_path, "run.json", RUN)
    (tmp_path / "work.bin").write_bytes(b"1")
    with pytest.raises(InputError, match="interrupted run; leave out --no-resume"):
        claim(tmp_path, "run.json", RUN, resume=False)


@pytest.mark.parametrize("cut", ["before", "within"])
def test_a_run_that_is_killed_as_it_ends_keeps_no_checkpoint(cut, tmp_path, monkeypatch):
    claim(tmp_path, "checkpoints/run.json", RUN, finished="done.json")
    (tmp_path / "checkpoints" / "last.bin").write_bytes(b"1")
    (tmp_path / "done.json").write_text("{}")
    if cut == "within":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", interrupted)
            end(tmp_path, "checkpoints/run.json")
        # Not even a part of it is taken for a checkpoint.
        assert not (tmp_path / "checkpoints").exists() and len(list(tmp_path.iterdir())) == 2
    with hold(tmp_path), pytest.raises(InputError, match="holds a finished run"):
        claim(tmp_path, "checkpoints/run.json", RUN, finished="done.json")
    assert [path.name for path in tmp_path.iterdir()] == ["done.json"]


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        claim(tmp_path / "out", "run.json", RUN)


def test_nothing_was_begun_where_there_is_no_record(tmp_path):
    assert earlier_record(tmp_path, "run.json", RUN) is None
