"""Who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import srlvae

ROOT = Path(srlvae.__file__).parent
# From the bottom up; a room may import those below it and itself.
LAYERS = [
    {
        "errors",
        "events",
        "extras",
        "files",
        "words",
        "links",
        "locks",
        "opened",
        "config",
        "provenance",
        "runs",
        "zoo",
        "trust",
        "memory",
        "malloc",
        "devices",
        "precision",
    },
    {"images", "rng"},
    {"models", "metrics"},
    {"attacks", "purify", "training", "edits"},
    {"finetune", "scan"},
    {"harden", "bench"},
    {"report"},
    {"quickstart", "speed"},
    {"app"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}
# A judge must not know the defendant, and training must not know the exam.
STRANGERS = [{"metrics", "models"}, {"attacks", "training"}, {"attacks", "purify"}, {"harden", "bench"}]


def room_of(module: str) -> str:
    """`srlvae.harden.train` is in the room `harden`; the package itself is the room ``."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = ("srlvae", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """The modules and names of this package that a file imports, anywhere in it."""
    found: set[str] = set()
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from srlvae import zoo` imports a room, too.
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "srlvae" else {module}
    return {name for name in found if name.split(".")[0] == "srlvae"}


EDGES = sorted(
    {(module_of(path), room_of(name)) for path in ROOT.rglob("*.py") for name in imported(path)}
    | {(module_of(path), room_of(module_of(path))) for path in ROOT.rglob("*.py")}
)


def test_every_room_has_its_place():
    homeless = {room for module, other in EDGES for room in (room_of(module), other)} - HEIGHT.keys() - {""}
    assert not homeless, f"say in LAYERS who may import {homeless}"


def test_the_imports_are_found():
    assert {("srlvae.harden.train", "models"), ("srlvae.models.vae", "zoo"), ("srlvae.bench.attacked", "attacks")} <= set(EDGES)


@pytest.mark.parametrize("module", sorted({module for module, _ in EDGES} - {"srlvae"}))
def test_a_module_imports_nothing_above_it(module):
    room = room_of(module)
    above = {other for source, other in EDGES if source == module and HEIGHT[other] > HEIGHT[room]}
    assert not above


@pytest.mark.parametrize("pair", STRANGERS, ids=lambda pair: " and ".join(sorted(pair)))
def test_strangers_do_not_import_each_other(pair):
    assert not [edge for edge in EDGES if {room_of(edge[0]), edge[1]} == pair]


def test_metrics_know_no_attack_and_no_autoencoder():
    known = {other for module, other in EDGES if room_of(module) == "metrics"}
    generic = {"config", "errors", "extras", "files", "images", "opened", "provenance", "rng", "trust", "words"}
    assert known <= {"metrics", "zoo", *generic}


def test_nothing_imports_the_command_line_but_its_entry():
    assert {room_of(module) for module, other in EDGES if other == "cli"} <= {"cli", "__main__"}


def test_the_package_itself_imports_none_of_its_rooms():
    assert {other for module, other in EDGES if module == "srlvae"} == {""}


@pytest.mark.parametrize("module", ["srlvae", "srlvae.cli", "srlvae.attacks", "srlvae.bench.rows", "srlvae.report.tables"])
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "srlvae" in loaded and {"torch", "diffusers", "numpy", "PIL"}.isdisjoint(loaded)


@pytest.mark.parametrize("module", ["srlvae.harden", "srlvae.attacks.files", "srlvae.scan.shards", "srlvae.models.pipeline"])
def test_importing_loads_libraries_of_models_only_when_a_model_is_loaded(module):
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded and {"diffusers", "transformers", "datasets", "pyarrow", "timm"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", srlvae.__all__)
def test_public_names_are_there(name):
    assert getattr(srlvae, name) is not None


def test_protocols_can_be_checked_while_a_program_runs():
    """Checks of arguments, which CI switches on, fail on others when a module is imported."""
    for path in ROOT.rglob("*.py"):
        classes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]
        protocols = [node for node in classes if any(re.match(r"Protocol\b", ast.unparse(base)) for base in node.bases)]
        for node in protocols:
            assert "runtime_checkable" in map(ast.unparse, node.decorator_list), f"{path}: {node.name}"


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = srlvae.nothing
