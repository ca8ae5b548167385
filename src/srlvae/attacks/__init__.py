"""The attacks by name. To add one: a file with its objective, its function and its `Attack`, and a line here."""

from __future__ import annotations

from srlvae.attacks.adaptive import ADAPTIVE, adaptive
from srlvae.attacks.advdm import ADVDM, advdm
from srlvae.attacks.antidreambooth import ANTIDREAMBOOTH, antidreambooth
from srlvae.attacks.apgd import apgd
from srlvae.attacks.diffusionguard import DIFFUSIONGUARD, diffusionguard
from srlvae.attacks.glaze import GLAZE, glaze
from srlvae.attacks.latent import LATENT, latent
from srlvae.attacks.mist import FUSED, SEMANTIC, TEXTURAL, mist_fused, mist_semantic, mist_textural
from srlvae.attacks.nightshade import NIGHTSHADE, nightshade
from srlvae.attacks.pgd import Images, Objective, pgd
from srlvae.attacks.photoguard import DIFFUSION, ENCODER, photoguard_diffusion, photoguard_encoder
from srlvae.attacks.pid import PID, pid
from srlvae.attacks.reconstruction import RECONSTRUCTION, reconstruction
from srlvae.attacks.sds import SDS_DOWN, SDS_UP, sds
from srlvae.attacks.table import Attack, Preset
from srlvae.attacks.worst_case import WORST_CASE, worst_case

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
