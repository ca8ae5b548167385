"""The attacks: `table` has them by name, `papers` what they do, `engine` the loop; `files` runs them on files."""

from __future__ import annotations

from srlvae.attacks.attack import Attack, Preset
from srlvae.attacks.table import ATTACKS

__all__ = ["ATTACKS", "Attack", "Preset"]
