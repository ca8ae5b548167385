"""The command line up to the function that does the work, which is replaced by one that takes note of what it is given."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srlvae.cli import main

# The function that does the work of a command.
WORK = {
    "quickstart": "srlvae.quickstart.quickstart",
    "harden": "srlvae.harden.harden",
    "apply": "srlvae.models.encoders.apply_encoder",
    "export": "srlvae.models.formats.export.export",
    "push": "srlvae.harden.push.push",
    "attack": "srlvae.attacks.files.attack_files",
    "generate": "srlvae.edits.generate_files",
    "edit": "srlvae.edits.edit_files",
    "finetune": "srlvae.finetune.finetune",
    "scan": "srlvae.scan.scan",
    "bench reconstruction": "srlvae.bench.reconstruction.reconstruction",
    "bench hardening": "srlvae.bench.hardening.hardening",
    "bench speed": "srlvae.speed.speed",
    "bench editing": "srlvae.bench.editing.editing",
    "bench all": "srlvae.bench.leaderboard.bench_all",
    "bench poisoning": "srlvae.bench.poisoning.poisoning",
    "bench mimicry": "srlvae.bench.mimicry.mimicry",
    "report": "srlvae.report.page.write_report",
    "app": "srlvae.app.page.serve",
}
ENCODERS = ("original", "hardened", "precision")
LOADERS = (
    "models.vae.load_vae",
    "models.load.load_pipeline",
    "models.encoders.read_encoder",
    "metrics.clip.load_clip",
    "metrics.judge.load_judge",
)


class Reached(Exception):
    """The function that does the work was called; the command need not go on."""


class Commands:
    """Runs commands up to the function that does their work. Models and photographs are what they were asked for."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.patch, self.call = patch, dict[str, Any]()
        for name, path in WORK.items():
            self._replace(path, goes_on=name in ("apply", "scan"))
        for name in ("write_summary", "scan_shards"):
            self._replace(f"srlvae.scan.{name}")
        patch.setattr("srlvae.scan.Encoders", lambda *given: self.call.update(zip(ENCODERS, given, strict=True)))
        patch.setattr("srlvae.scan.calibrate_looks", self._calibrate)
        patch.setattr("srlvae.scan.score", lambda seen, calibration: [])
        patch.setattr("srlvae.scan.on_ray.ray_engine", lambda workers: ("ray", workers))
        for loader in LOADERS:
            patch.setattr(f"srlvae.{loader}", _model)
        patch.setattr("srlvae.attacks.prepared.prepare", lambda request, on: SimpleNamespace(request=request, model=on))
        patch.setattr("srlvae.harden.photographs.open_photographs", _photographs)

    def run(self, *words: object) -> dict[str, Any]:
        """What the work of a command is called with: the parameters of its function by name."""
        self.call.clear()
        self.patch.setattr("sys.argv", ["srlvae", *map(str, words)])
        with pytest.raises(Reached):
            main()
        return dict(self.call)

    def _replace(self, path: str, goes_on: bool = False) -> None:
        module, name = path.rsplit(".", 1)
        signature = inspect.signature(getattr(importlib.import_module(module), name))

        def takes_note(*given: Any, **named: Any) -> Any:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            self.call.update(bound.arguments)
            if not goes_on:
                raise Reached
            if path == WORK["apply"]:
                return SimpleNamespace(save=self._save)
            # Of a scan the clean images come first.
            self.call.setdefault("clean", bound.arguments["folder"])
            return []

        self.patch.setattr(path, takes_note)

    def _calibrate(self, looks: object, rate: float) -> SimpleNamespace:
        self.call.update(rate=rate)
        return SimpleNamespace(threshold=0.0)

    def _save(self, out: Path) -> None:
        self.call["out"] = out
        raise Reached


def _model(source: object, *given: Any, **_: object) -> SimpleNamespace:
    """What loading a VAE, a pipeline, a CLIP or a judge gives here: what it was asked for."""
    vae, device = (None, *given)[-2:] if given else (None, None)
    return SimpleNamespace(source=source, vae=vae, device=device)


def _photographs(source: str, size: int, streaming: bool, column: str | None, out: Path) -> SimpleNamespace:
    return SimpleNamespace(source=source, streaming=streaming, column=column)
