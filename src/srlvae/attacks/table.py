"""The attacks by name. To add one: a file in `papers`, and its `Attack` in `on_vaes` or `on_pipelines`.

Nothing is loaded that computes: an attack's function is imported when it is first run.
"""

from __future__ import annotations

from srlvae.attacks.attack import Attack
from srlvae.attacks.on_pipelines import ON_PIPELINES
from srlvae.attacks.on_vaes import ON_VAES

ATTACKS: dict[str, Attack] = ON_VAES | ON_PIPELINES

# Noise that is no attack.
NOISES = ("uniform-noise", "random-signs")
