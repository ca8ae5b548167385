"""Strict settings: what is wrong is named, with the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from srlvae.config import fraction, from_dict, read_toml
from srlvae.errors import InputError


@dataclass(frozen=True)
class Inner:
    eps: float = 0.1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    rate: float = 0.5
    name: str = "x"
    loud: bool = False
    inner: Inner = field(default_factory=Inner)


def read(tmp_path, text: str) -> Outer:
    (tmp_path / "a.toml").write_text(text)
    return read_toml(tmp_path / "a.toml", Outer)


def test_keys_left_out_keep_their_defaults(tmp_path):
    assert read(tmp_path, "") == Outer()
    assert read(tmp_path, "steps = 5") == Outer(steps=5)


def test_a_nested_table_becomes_a_nested_dataclass(tmp_path):
    assert read(tmp_path, 'loud = true\n[inner]\nkind = "b"\n') == Outer(loud=True, inner=Inner(kind="b"))


@pytest.mark.parametrize(("text", "value"), [('"8/255"', 8 / 255), ('"0.03"', 0.03), ("0.03", 0.03), ("1", 1.0)])
def test_a_budget_is_a_number_or_a_fraction(tmp_path, text, value):
    eps = read(tmp_path, f"[inner]\neps = {text}").inner.eps
    assert eps == value and type(eps) is float


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz = 3", "a.toml: unknown setting 'stepz'; known are steps"),
        ("[inner]\nepz = 1", "a.toml: inner: unknown setting 'epz'"),
        ("steps = 3.5", "a.toml: steps must be of type int, got 3.5"),
        ('steps = "3"', "steps must be of type int, got '3'"),
        ("steps = true", "steps must be of type int, got True"),
        ("rate = true", "rate must be of type float, got True"),
        ("rate = [1]", "rate must be of type float"),
        ("name = 3", "name must be of type str, got 3"),
        ("loud = 1", "loud must be of type bool, got 1"),
        ("inner = 3", "inner must be a table, got 3"),
        ('[inner]\nkind = "c"', "a.toml: inner: kind must be one of a, b, got 'c'"),
        ('[inner]\neps = "8/0"', "inner: eps must be a number or a fraction such as 8/255, got '8/0'"),
        ('[inner]\neps = "eight"', "got 'eight'"),
        ("steps = ", "cannot read settings from .*a.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.toml"):
        read_toml(tmp_path / "gone.toml", Outer)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="a.toml"):
        read_toml(tmp_path / "a.toml", Outer)


def test_dictionaries_are_read_like_files():
    assert from_dict(Outer, {"inner": {"eps": "4/255"}}, "here") == Outer(inner=Inner(eps=4 / 255))


def test_a_fraction_error_names_the_budget():
    with pytest.raises(InputError, match="^eps must be .* got '8/255/2'"):
        fraction("8/255/2")
