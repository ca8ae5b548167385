"""An attacker who knows the scan: besides his own objective, he minimises the score that the scan gives.

After Carlini and Wagner 2017 (arXiv 1705.07263), who get past ten detectors by attacks that know them, and the advice of Tramèr
et al. 2020 (arXiv 2002.08347) to attack what a defence relies on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.images import Images, pad_to_multiple
from srlvae.models.vae import VAE
from srlvae.provenance import code_digest
from srlvae.rng import Generators
from srlvae.scan.calibration import Calibration
from srlvae.scan.evidence import SIGNS, evidence, signs
from srlvae.scan.likeness import likeness


@dataclass(frozen=True)
class Evading:
    """What an attacker knows of a scan: both VAEs and the calibration, the threshold included.

    weight: λ, how much of the attack's objective a standard deviation of the score is worth. 0 is the attack as it is.
    """

    original: VAE
    hardened: VAE
    calibration: Calibration
    weight: float

    def settings(self) -> Mapping[str, Any]:
        """What the attacked images depend on by it: the scan's own code, too, which no other attack depends on."""
        if not self.weight:
            return {}
        vaes = {"original": self.original.fingerprint(), "hardened": self.hardened.fingerprint()}
        scan = {"calibration": self.calibration.fingerprint(), "code": code_digest("scan")}
        return {"evading": {**vaes, **scan, "weight": self.weight}}

    def used(self, loop: Loop, x: Images, generators: Generators) -> Loop:
        """The loop with the penalty for images `x`."""
        return replace(loop, penalty=self.penalty(x)) if self.weight else loop

    def penalty(self, x: Images) -> Objective:
        """x′ ↦ λ · max(score(x′), 0), for perturbed versions x′ of the clean images `x`.

        A score of 0 is the mean of similar clean images. What the score takes from elsewhere than E₀(x′) and E(x′) is that of
        the clean image: what the hardened VAE makes of it, its scrambled detail, its traits. A perturbation changes these
        little, and each step costs a pass of both encoders in place of six and one of the decoder.
        """
        x = pad_to_multiple(x, self.original.factor)
        with torch.no_grad():
            rest, traits = evidence(self.original, self.hardened, x)[:, SIGNS:], likeness(x)
            y = self.hardened.reconstruct(x)
            before, after = self.original.mean(y), self.hardened.mean(y)

        def penalty(adversarial: Images):
            found = torch.stack(signs(self.original.mean(adversarial) - before, self.hardened.mean(adversarial) - after), 1)
            scores = self.calibration.scores(torch.cat([found, rest], 1).cpu(), traits.cpu())
            return self.weight * scores.clamp(min=0).to(x.device)

        return penalty
