"""One perturbation against several autoencoders: what an attacker makes who does not know which of them will read it."""

from __future__ import annotations

from collections.abc import Callable

from srlvae.attacks.engine.pgd import Objective
from srlvae.models.vae import VAE

# One autoencoder, or several that are attacked at once.
VAEs = VAE | tuple[VAE, ...]


def summed(make: Callable[[VAE], Objective], vae: VAEs) -> Objective:
    """An attack's objective on a VAE, or the sum of those on several. `make` gives the objective on one."""
    objectives = [make(each) for each in (vae if isinstance(vae, tuple) else (vae,))]
    return lambda adversarial: sum((objective(adversarial) for objective in objectives[1:]), objectives[0](adversarial))
