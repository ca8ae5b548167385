"""What each attack does, beside random signs of its size, and how its objective falls over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from srlvae.report.plots import PALETTE, grid, svg
from srlvae.report.rows import Table

# What a column shows: its measure and its decimals.
MEASURES = {
    "reconstruction, dB": ("reconstruction_psnr", 1),
    "latent shift": ("latent_shift", 2),
    "Lite1 distance of the edit ↓": ("edit_efficientnet-lite1_distance", 2),
    "CLIP-I of the edit (tiny-clip)": ("edit_clip_i_tiny-clip", 3),
}


def attacks_table(result: Mapping[str, Any]) -> Table:
    """A line for each attack: after the attack and, in brackets, after random signs of the same ε. From recipes/attacks.py."""
    lines = []
    for name, row in result["rows"].items():
        pairs = [f"{row['attacked'][key]:.{n}f} ({row['noise'][key]:.{n}f})" for key, n in MEASURES.values()]
        lines.append([name, f"{row['eps_255']:.3g}/255", str(row["steps"]), half_way(row["curve"], row["steps"]), *pairs])
    return ["attack", "ε", "steps", "fall by half of them", *MEASURES], lines


def half_way(curve: Sequence[Sequence[int | float]], steps: int) -> str:
    """How much of its fall the objective, which is to be small, has behind it after half of the steps of the first start.

    `curve` has all starts, of `steps` each, one after another. Near 100 % the attack has converged.
    """
    start = [point for point in curve if point[0] <= steps]
    first, last = start[0][1], start[-1][1]
    half = next(value for step, value in start if 2 * step >= start[-1][0])
    return f"{(first - half) / (first - last):.0%}" if last < first else "none"


def plot_curves(result: Mapping[str, Any]) -> str:
    """The objective of each attack over its steps, as SVG with a panel for each, and scales of its own."""
    columns = 5
    figure, axes = grid(math.ceil(len(result["rows"]) / columns), columns, width=2.6, share_x=False, share_y=False)
    for axis, (name, row) in zip(axes.flat, result["rows"].items(), strict=False):
        axis.plot(*zip(*row["curve"], strict=True), color=PALETTE[0])
        axis.set_title(name)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(result["rows"]) :]:
        axis.remove()
    return svg(figure, axes)
