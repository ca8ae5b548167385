"""The attacks on a VAE by name, with their published settings; loads nothing that computes."""

from __future__ import annotations

from srlvae.attacks.attack import Attack, Preset
from srlvae.attacks.engine.ball import Ball

# An ℓ2 step of 1 on images in [0,1] at 512 pixels, as a root mean square over pixels and colours.
BLURGUARD_STEP = 1 / (3 * 512**2) ** 0.5
# One quantisation step of JPEG at quality 95 as a root mean square over pixels; see `rms_of_a_step`.
DCT_STEP, LUMA_STEP = 9.78 / 255, 6.71 / 255
APGD = Ball(15 / 255, 60, 2 / 255)
MIST = Preset(Ball(16 / 255, 100, 1 / 255), "mist.py, version 1: 16, 1 and 100 of 255ths")

ON_VAES: dict[str, Attack] = {
    "reconstruction": Attack(
        "reconstruction.reconstruction",
        "SRL-VAE, arXiv 2504.17219",
        "vae",
        "E + D",
        {"default": Preset(Ball(15 / 255, 40, 2 / 255), "largest budget of the paper's tables; no perceptual term")},
        restarts=True,
    ),
    "latent": Attack(
        "latent.latent",
        "FARE, arXiv 2402.12336",
        "vae",
        "E",
        {
            "default": Preset(Ball(8 / 255, 40, 1 / 255), "as strong as 40 steps get it"),
            "fare": Preset(Ball(4 / 255, 10, 1 / 255), "FARE's training attack: 10 steps of 1/255 within 4/255"),
        },
        restarts=True,
    ),
    "pid": Attack(
        "pid.pid",
        "PID, arXiv 2406.15305",
        "vae",
        "E",
        {
            "paper": Preset(Ball(12.75 / 255, 1000, 1 / 255), "their code: .05 on [0,1], 1000 steps of 1/255"),
            "variance": Preset(Ball(15 / 255, 40, 2 / 255), "the log-variance alone; not published", {"variance_alone": True}),
        },
        restarts=True,
        posterior=True,
    ),
    "pca-": Attack(
        "posterior_collapse.pca_minus",
        "PCA, arXiv 2408.10901",
        "vae",
        "E",
        {"paper": Preset(Ball(16 / 255, 40, 2 / 255), "their code: 16, 2 and 40 of 255ths; prior variance 1e-8")},
        restarts=True,
        posterior=True,
    ),
    "pca+": Attack(
        "posterior_collapse.pca_plus",
        "PCA, arXiv 2408.10901",
        "vae",
        "E",
        {"paper": Preset(Ball(16 / 255, 40, 2 / 255), "their code: 16, 2 and 40 of 255ths; prior variance 1")},
        restarts=True,
        posterior=True,
    ),
    "blurguard": Attack(
        "blurguard.blurguard",
        "BlurGuard, arXiv 2511.00143",
        "vae",
        "E",
        {
            "code": Preset(
                Ball(16 / 255, 150, BLURGUARD_STEP, falls=True),
                "their code: 16 of 255ths, 150 steps, of which 50 fit the blurs; ℓ2 step 2 on [-1,1] at 512 pixels",
            )
        },
    ),
    "dct-shield": Attack(
        "dctshield.dct_shield",
        "DCT-Shield, arXiv 2504.17894",
        "vae",
        "E",
        {
            "paper": Preset(
                Ball(DCT_STEP, 1000, 0.1 * DCT_STEP, "rms"),
                "paper: one quantisation step of quality 95, steps of a tenth; ε is its root mean square over pixels",
            ),
            "luma": Preset(
                Ball(LUMA_STEP, 1000, 0.1 * LUMA_STEP, "rms"),
                "paper: the same on the luma alone",
                {"luma_alone": True},
            ),
        },
    ),
    "photoguard-encoder": Attack(
        "photoguard.photoguard_encoder",
        "PhotoGuard, arXiv 2302.06588",
        "vae",
        "E",
        {
            "paper": Preset(Ball(16 / 255, 200, 2 / 255, falls=True), "paper, section 5: 16/255, 200 steps"),
            "notebook": Preset(
                Ball(7.65 / 255, 1000, 2.55 / 255, falls=True), "their image-to-image notebook: .06, .02 on [-1,1]"
            ),
            "notebook-inpainting": Preset(
                Ball(7.65 / 255, 1000, 1.275 / 255, falls=True),
                "demo_simple_attack_inpainting.ipynb: .06 and .01 on [-1,1]",
                wants=("target",),
            ),
            "app": Preset(Ball(15.3 / 255, 200, 1.275 / 255, falls=True), "their app: .12, .01 on [-1,1]", {"grey": True}),
        },
        restarts=True,
    ),
    "mist-textural": Attack(
        "mist.mist_textural",
        "Mist, arXiv 2305.12683",
        "vae",
        "E",
        {"v1": MIST, "v2": Preset(Ball(4 / 255, 100, 0.5 / 255), 'mist-v2: "8/255" on [-1,1] images is 4/255')},
    ),
    "square": Attack(
        "square.square",
        "Square, arXiv 1912.00049",
        "vae",
        "E + D forward",
        {
            "reconstruction": Preset(Ball(15 / 255, 5000, 2 / 255), "AutoAttack's 5,000 queries and share .8; SRL-VAE's ε"),
            "latent": Preset(Ball(15 / 255, 5000, 2 / 255), "the same for a far latent", {"aim": "latent"}),
            "zero": Preset(Ball(15 / 255, 5000, 2 / 255), "the same for a latent near zero", {"aim": "zero"}),
        },
    ),
    "layers": Attack(
        "layers.layers",
        "after GRILL, arXiv 2505.03646",
        "vae",
        "E",
        {"default": Preset(Ball(15 / 255, 60, 2 / 255), "the largest budget of SRL-VAE's tables")},
        restarts=True,
    ),
    "adaptive": Attack(
        "adaptive.adaptive",
        "APGD, arXiv 2003.01690",
        "vae",
        "E + D",
        {
            "default": Preset(APGD, "the largest budget of SRL-VAE's tables", restarts=2),
            "posterior": Preset(APGD, "the same and the variance; not published", {"variance": 0.02}, restarts=2),
            "mean": Preset(APGD, "the latent alone; not published", {"weight": 1.0, "reconstruction": 0.0}, restarts=2),
            "reconstruction": Preset(APGD, "the reconstruction alone; not published", {"weight": 0.0}, restarts=2),
        },
        restarts=True,
    ),
    "worst-case": Attack(
        "worst_case.worst_case",
        "AutoAttack, arXiv 2003.01690",
        "vae",
        "5 E + 2 D",
        {"default": Preset(Ball(15 / 255, 60, 2 / 255), "the largest budget of SRL-VAE's tables")},
        searches=5,
        restarts=True,
    ),
}
