"""The attacks by name. To add one: a file with its objective, its function and its `Attack`, and a line here."""

from __future__ import annotations

from srlvae.attacks.engine.apgd import apgd
from srlvae.attacks.engine.pgd import Images, Objective, pgd
from srlvae.attacks.papers.adaptive import ADAPTIVE, adaptive
from srlvae.attacks.papers.advdm import ADVDM, advdm
from srlvae.attacks.papers.antidreambooth import ANTIDREAMBOOTH, antidreambooth
from srlvae.attacks.papers.diffusionguard import DIFFUSIONGUARD, diffusionguard
from srlvae.attacks.papers.glaze import GLAZE, glaze
from srlvae.attacks.papers.latent import LATENT, latent
from srlvae.attacks.papers.mist import FUSED, SEMANTIC, TEXTURAL, mist_fused, mist_semantic, mist_textural
from srlvae.attacks.papers.nightshade import NIGHTSHADE, nightshade
from srlvae.attacks.papers.photoguard import DIFFUSION, ENCODER, photoguard_diffusion, photoguard_encoder
from srlvae.attacks.papers.pid import PID, pid
from srlvae.attacks.papers.reconstruction import RECONSTRUCTION, reconstruction
from srlvae.attacks.papers.sds import SDS_DOWN, SDS_UP, sds
from srlvae.attacks.papers.worst_case import WORST_CASE, worst_case
from srlvae.attacks.table import Attack, Preset

__all__ = [
    "ATTACKS",
    "Attack",
    "Images",
    "Objective",
    "Preset",
    "adaptive",
    "advdm",
    "antidreambooth",
    "apgd",
    "diffusionguard",
    "glaze",
    "latent",
    "mist_fused",
    "mist_semantic",
    "mist_textural",
    "nightshade",
    "pgd",
    "pid",
    "photoguard_diffusion",
    "photoguard_encoder",
    "reconstruction",
    "sds",
    "worst_case",
]

ATTACKS: dict[str, Attack] = {
    "reconstruction": RECONSTRUCTION,
    "latent": LATENT,
    "pid": PID,
    "photoguard-encoder": ENCODER,
    "photoguard-diffusion": DIFFUSION,
    "mist-textural": TEXTURAL,
    "mist-semantic": SEMANTIC,
    "mist-fused": FUSED,
    "glaze": GLAZE,
    "nightshade": NIGHTSHADE,
    "advdm": ADVDM,
    "sds+": SDS_UP,
    "sds-": SDS_DOWN,
    "anti-dreambooth": ANTIDREAMBOOTH,
    "diffusionguard": DIFFUSIONGUARD,
    "adaptive": ADAPTIVE,
    "worst-case": WORST_CASE,
}
