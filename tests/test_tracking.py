"""Curves and pictures of a training, as TensorBoard reads them."""

from __future__ import annotations

import pytest
import torch

from heard import Heard
from srlvae.errors import InputError
from srlvae.training.tracking import LOGS, Tracking


def test_tensorboard_reads_what_was_measured_and_shown(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    heard = Heard()
    tracking = Tracking("tensorboard", tmp_path / "out", heard)
    assert not (tmp_path / "out").exists()  # the output folder is not the run's yet
    for step in (1, 2):
        tracking.measured(step, {"shift": step / 2})
    tracking.pictured(2, "before and after", torch.tensor([1.0, 0.0, 0.5])[:, None, None].expand(3, 6, 4))
    tracking.at("steps", 2, 2, "done")
    tracking.close()
    found = reading.EventAccumulator(str(tmp_path / "out" / LOGS))
    found.Reload()
    assert [(point.step, point.value) for point in found.Scalars("shift")] == [(1, 0.5), (2, 1.0)]
    (picture,) = found.Images("before and after")
    assert (picture.height, picture.width) == (6, 4) and heard.bars == {"steps": [(2, 2)]}


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("srlvae.training.tracking.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        Tracking("wandb", tmp_path, Heard())
