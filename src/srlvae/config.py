"""Strict TOML: a file of settings becomes a frozen dataclass, and an error names whatever is wrong in the file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from pathlib import Path
from typing import Any, TypeVar

from srlvae.errors import InputError, unknown
from srlvae.opened import read_text
from srlvae.words import shortened

T = TypeVar("T")
# The bounds of a setting, both allowed.
Range = tuple[int | float, int | float]
# More than anyone runs or holds in memory: beyond it a number is a slip of the hand.
MOST_STEPS, MOST_IMAGES, MOST_PIXELS, MOST_SEED = 1_000_000, 100_000, 16_384, 2**63 - 1


def read_toml(path: Path, cls: type[T]) -> T:
    """Read the settings in `path` as the dataclass `cls`. Keys that are left out keep their defaults.

    Raises InputError that names the file, and the key where one is at fault.
    """
    try:
        values = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError, MemoryError) as error:  # tomllib's own are ValueErrors, too
        raise InputError(f"cannot read settings from {path}: {error}") from error
    return from_dict(cls, values, str(path))


def from_dict(cls: type[T], values: dict[str, Any], where: str) -> T:
    """Build the dataclass `cls` from nested dictionaries. `where` is what errors call their source.

    Raises InputError for an unknown or a missing key, a value of the wrong type, or a word that is not among the choices.
    """
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    if strange := sorted(set(values) - set(hints)):
        raise unknown(f"{where}: unknown setting", strange[0], hints)
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise InputError(f"{where}: setting {missing[0]!r} is missing; {', '.join(required)} are needed")
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{where} must be a table, got {value!r}")
        return from_dict(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        # 0 equals False, and is no switch.
        if not any(type(value) is type(one) and value == one for one in choices):
            raise InputError(f"{where} must be one of {', '.join(map(str, choices))}, got {shortened(value)}")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} must be a list, got {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, str):
        return fraction(value, where)
    # bool is an int in Python, and a whole number a fine float in TOML.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _real(value, where)
    if type(value) is not (typing.get_origin(hint) or hint):
        raise InputError(f"{where} must be of type {getattr(hint, '__name__', hint)}, got {shortened(value)}")
    return _real(value, where) if hint is float else value


def _real(value: float | int, where: str) -> float:
    try:
        if math.isfinite(number := float(value)):
            return number
    except OverflowError:
        pass
    raise InputError(f"{where} must be a finite number, got {shortened(value)}")


def check_numbers(settings: Any, where: str, **ranges: Range) -> None:
    """Check that all numbers in a dataclass of settings are finite, and that those named lie between their two bounds.

    Dataclasses within it are not looked into. Raises InputError that names `where` it is, the setting and the value.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float):
                check_number(f"{where}{field.name}", number, *ranges.get(field.name, (-math.inf, math.inf)))


def check_number(name: str, number: int | float, low: int | float, high: int | float) -> None:
    """Raise InputError that has the `name` of a number which is not finite or not between its bounds."""
    if isinstance(number, float) and not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {number}")
    if number < low:
        raise InputError(f"{name} must be at least {low}, got {shortened(number)}")
    if number > high:
        raise InputError(f"{name} must be at most {high}, got {shortened(number)}")


def fraction(text: str, where: str = "eps") -> float:
    """Parse a number that is written as `0.03` or as a fraction such as `8/255`.

    Raises InputError, in which `where` names the setting.
    """
    top, slash, bottom = text.partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
        if not math.isfinite(value):
            raise ValueError("it is not finite")
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{where} must be a number or a fraction such as 8/255, got {shortened(text)}") from error
    return value


def budget(eps: float) -> str:
    """How an ℓ∞ budget in [0,1] is written in files and rows: `15/255`, and `0` for none. `fraction` reads it back."""
    return f"{eps * 255:.6g}/255" if eps else "0"
