"""Strict settings: what is wrong is named, with the file; the settings of hardening and their presets."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from typing import Literal

import pytest

from srlvae.config import fraction, from_dict, read_toml
from srlvae.errors import InputError, unknown
from srlvae.harden import OBJECTIVES, PRESETS, HardenConfig, InnerAttack, Objective, Term, preset


@dataclass(frozen=True)
class Nested:
    eps: float = 0.1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    rate: float = 0.5
    name: str = "x"
    loud: bool = False
    inner: Nested = field(default_factory=Nested)


def read(tmp_path, text: str) -> Outer:
    (tmp_path / "a.toml").write_text(text)
    return read_toml(tmp_path / "a.toml", Outer)


def test_keys_left_out_keep_their_defaults(tmp_path):
    assert read(tmp_path, "") == Outer()
    assert read(tmp_path, "steps = 5") == Outer(steps=5)
    # Editors of Windows write a byte order mark.
    assert read(tmp_path, "\ufeffsteps = 5") == Outer(steps=5)


def test_a_nested_table_becomes_a_nested_dataclass(tmp_path):
    assert read(tmp_path, 'loud = true\n[inner]\nkind = "b"\n') == Outer(loud=True, inner=Nested(kind="b"))


@pytest.mark.parametrize(("text", "value"), [('"8/255"', 8 / 255), ('"0.03"', 0.03), ("0.03", 0.03), ("1", 1.0)])
def test_a_budget_is_a_number_or_a_fraction(tmp_path, text, value):
    eps = read(tmp_path, f"[inner]\neps = {text}").inner.eps
    assert eps == value and type(eps) is float


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz = 3", "a.toml: unknown setting 'stepz', perhaps steps; choose one of steps"),
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
    assert from_dict(Outer, {"inner": {"eps": "4/255"}}, "here") == Outer(inner=Nested(eps=4 / 255))


def test_a_fraction_error_names_the_budget():
    with pytest.raises(InputError, match="^eps must be .* got '8/255/2'"):
        fraction("8/255/2")


# --- the settings of hardening


def harden_settings(tmp_path, text: str) -> HardenConfig:
    (tmp_path / "harden.toml").write_text(text)
    return read_toml(tmp_path / "harden.toml", HardenConfig)


def test_hardening_reads_its_settings_from_a_file(tmp_path):
    text = """
        steps = 7
        learning_rate = "1/1000"
        [objective]
        closeness = 0.2
        [[objective.attacks]]
        aim = "target"
        eps = "4/255"
        [[objective.attacks]]
        aim = "noise"
        share = 0.5
        [[objective.terms]]
        measure = "image"
        on = "attacked"
        weight = 2
    """
    config = harden_settings(tmp_path, text).check()
    assert (config.steps, config.learning_rate, config.objective.closeness) == (7, 1e-3, 0.2)
    assert config.objective.attacks == (InnerAttack("target", eps=4 / 255), InnerAttack("noise", share=0.5))
    assert config.objective.terms == (Term("image", "attacked", 2.0),)
    assert config.objective.visits == HardenConfig().objective.visits


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("step = 7", "harden.toml: unknown setting 'step'"),
        ('precision = "int8"', "harden.toml: precision must be one of auto, no, bf16, fp16, got 'int8'"),
        ('[[objective.attacks]]\naim = "both"', r"harden.toml: objective: attacks\[0\]: aim must be one of"),
        ('[[objective.terms]]\nmeasure = "image"', r"harden.toml: objective: terms\[0\]: setting 'on' is missing"),
        ("[objective]\nepsilon = 0.1", "harden.toml: objective: unknown setting 'epsilon'"),
    ],
)
def test_a_wrong_setting_of_hardening_is_named(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        harden_settings(tmp_path, text)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_within_its_ranges(name, objective):
    chosen, own = OBJECTIVES[objective], PRESETS[name].objective
    # Ablations that bound clean latents are compared at the preset's bound and radii.
    taken = {"closeness": own.closeness, "ramp": own.ramp} if chosen.closeness else {}
    assert preset(name, objective).objective == dataclasses.replace(chosen, **taken)


def test_a_preset_takes_single_changes_and_stays_as_it_was():
    before = PRESETS["cpu"]
    changed = preset("cpu", "fare", eps=2 / 255, closeness=0.3, steps=9)
    assert [attack.eps for attack in changed.objective.attacks] == [2 / 255]
    assert (changed.objective.closeness, changed.objective.terms, changed.steps) == (0.3, OBJECTIVES["fare"].terms, 9)
    assert changed.batch_size == before.batch_size and PRESETS["cpu"] == before and before.steps != 9
    assert [attack.eps for attack in OBJECTIVES["fare"].attacks] == [8 / 255]


def test_radius_and_bound_reach_their_ends_before_the_run_does():
    objective = Objective(closeness=0.1, ramp=0.5)
    assert [objective.radius(p) for p in (0.0, 0.25, 0.5, 1.0)] == [0.25, 0.625, 1.0, 1.0]
    # Decimal fractions in float64.
    assert [objective.bound(p) for p in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([0.2, 0.15, 0.1, 0.1], rel=1e-12)
    assert Objective(ramp=0.0).radius(0.0) == 1.0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("photoguard", ", perhaps photoguard-encoder or photoguard-diffusion"),
        ("mits", ", perhaps mist"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_an_unknown_name_is_told_what_resembles_it(name, meant):
    error = unknown("unknown attack", name, ("photoguard-encoder", "photoguard-diffusion", "mist"))
    assert str(error) == f"unknown attack {name!r}{meant}; choose one of photoguard-encoder, photoguard-diffusion, mist"


def test_no_change_is_the_same_settings():
    assert HardenConfig().changed() == HardenConfig() == preset("default")


@pytest.mark.parametrize(
    ("words", "changes", "named"),
    [
        (("gpu",), {}, "unknown preset 'gpu'; choose one of default, cpu"),
        (("cpu", "trades"), {}, "unknown objective 'trades'; choose one of srl, srl-paper, fare"),
        (("cpu",), {"epochs": 3}, "settings: unknown setting 'epochs'"),
        (("cpu",), {"steps": "many"}, "settings: steps must be of type int, got 'many'"),
    ],
)
def test_what_is_unknown_to_a_preset_is_named(words, changes, named):
    with pytest.raises(InputError, match=named):
        preset(*words, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"eps": 8.0}, "write 8/255"),
        ({"eps": -0.1}, "eps must lie in .0,1., got -0.1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"held_out": 0}, "held_out must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"closeness": -0.1}, "closeness must be at least 0, got -0.1"),
        ({"objective": {"terms": [], "closeness": 0.0}}, "nothing to minimise"),
        (
            {"objective": {"attacks": [], "closeness": 0.0, "terms": [{"measure": "shift", "on": "attacked", "weight": 1.0}]}},
            "nothing to minimise",
        ),
        ({"objective": {"visits": 0}}, "visits must be at least 1, got 0"),
        ({"objective": {"visits": 1}}, "aim away takes no steps, so it is only noise"),
        ({"objective": {"attacks": [{"aim": "target", "on": "original"}]}}, "aim target takes no step"),
        ({"features": "none", "objective": asdict(OBJECTIVES["srl-paper"])}, "perceptual term, which needs a network"),
    ],
)
def test_a_value_out_of_its_range_is_quoted(changes, named):
    with pytest.raises(InputError, match=named):
        HardenConfig().changed(**changes)
