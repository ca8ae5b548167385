"""The table of what each attack does, beside random signs of its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        lines.append([name, f"{row['eps_255']:.3g}/255", str(row["steps"]), *pairs])
    return ["attack", "ε", "steps", *MEASURES], lines
