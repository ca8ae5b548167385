"""The table of `recipes/sweep.py`: hardening runs of equal compute, each with one setting changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.report.rows import Table

# The scores of `harden.scores`, as columns call them.
COLUMNS = {
    "shift_clean": "clean shift ↓",
    "psnr_clean": "clean dB ↑",
    "features_clean": "clean distance (efficientnet-lite1) ↓",
    "away_transfer": "away, transfer ↓",
    "away_white_box": "away, white-box ↓",
    "zero_transfer": "to zero, transfer ↓",
    "zero_white_box": "to zero, white-box ↓",
    "psnr_transfer": "attacked dB, transfer ↑",
    "psnr_white_box": "attacked dB, white-box ↑",
}


def sweep_table(result: Mapping[str, Any]) -> Table:
    """A line for the original encoder and for each run, with the number of its steps and its scores."""
    runs = [("original", "", result["original"])]
    runs += [(name, str(run["config"]["steps"]), run["scores"]) for name, run in result["rows"].items()]
    lines = [
        [name, steps, *(f"{scores[key]:.2f}" if key.startswith("psnr") else f"{scores[key]:.3f}" for key in COLUMNS)]
        for name, steps, scores in runs
    ]
    return ["changed", "steps", *COLUMNS.values()], lines
