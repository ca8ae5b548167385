"""One perturbation against several autoencoders: what an attacker makes who does not know which of them will read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from srlvae.attacks.engine.pgd import Objective
from srlvae.models.vae import VAE


def summed(make: Callable[[VAE], Objective], vae: VAE, also: Sequence[VAE] = ()) -> Objective:
    """The sum of an attack's objectives on `vae` and on each VAE of `also`. `make` gives the objective on a VAE."""
    objectives = [make(each) for each in (vae, *also)]
    return lambda adversarial: sum((objective(adversarial) for objective in objectives[1:]), objectives[0](adversarial))
