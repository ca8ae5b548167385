"""An attacker who knows the scan: besides his own objective, he minimises the score that the scan gives.

After Carlini and Wagner 2017 (arXiv 1705.07263), who get past ten detectors by attacks that know them, and the advice of Tramèr
et al. 2020 (arXiv 2002.08347) to attack what a defence relies on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.images import Images, pad_to_multiple
from srlvae.models.vae import VAE
from srlvae.provenance import code_digest
from srlvae.rng import Generators
from srlvae.scan.calibration import Calibration
from srlvae.scan.evidence import columns
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

        A score of 0 is the mean of similar clean images. The gradient goes through all that both VAEs see, six passes of an
        encoder and one of a decoder. In place of the median over patches, whose gradient is that of one patch, there is the
        mean. Traits, which have no gradient, are those of the clean images.
        """
        traits = likeness(pad_to_multiple(x, self.original.factor)).cpu()

        def penalty(adversarial: Images):
            found = columns(self.original, self.hardened, adversarial, middle=lambda patches: patches.mean(1))
            scores = self.calibration.scores(found.cpu(), traits)
            return self.weight * scores.clamp(min=0).to(x.device)

        return penalty
