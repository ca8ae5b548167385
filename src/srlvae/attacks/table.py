"""The attacks by name, with their published settings. To add one: a file in `papers`, and its `Attack` here.

Nothing is loaded that computes: an attack's function is imported when it is first run.
"""

from __future__ import annotations

from dataclasses import replace

from srlvae.attacks.attack import Attack, Preset
from srlvae.attacks.engine.ball import Ball, Perceptual

GLAZE = Perceptual(0.05)
# An ℓ2 step of 1 on images in [0,1] at 512 pixels, as a root mean square over pixels and colours.
BLURGUARD_STEP = 1 / (3 * 512**2) ** 0.5
# One quantisation step of JPEG at quality 95 as a root mean square over pixels; see `rms_of_a_step`.
DCT_STEP, LUMA_STEP = 9.78 / 255, 6.71 / 255
DIFF_PROTECT = Preset(Ball(16 / 255, 100, 1 / 255), "Diff-Protect: 16, 1 and 100 of 255ths")
MIST = Preset(Ball(16 / 255, 100, 1 / 255), "mist.py, version 1: 16, 1 and 100 of 255ths")

ATTACKS: dict[str, Attack] = {
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
    "photoguard-diffusion": Attack(
        "photoguard.photoguard_diffusion",
        "PhotoGuard, arXiv 2302.06588",
        "pipeline",
        "E + D + 4 U",
        {
            "paper": Preset(Ball(16 / 255, 200, 2 / 255), "paper, section 5: 16/255, 200 steps; image-to-image"),
            "notebook": Preset(
                Ball(8.0, 200, 0.5, "l2"),
                "demo_complex_attack_inpainting.ipynb: ℓ2 radius 16 and step 1 on [-1,1] at 512 pixels, 10 repeats",
                {"inpaint": True},
                wants=("mask",),
                repeats=10,
            ),
        },
        announced=True,
    ),
    "mist-textural": Attack(
        "mist.mist_textural",
        "Mist, arXiv 2305.12683",
        "vae",
        "E",
        {"v1": MIST, "v2": Preset(Ball(4 / 255, 100, 0.5 / 255), 'mist-v2: "8/255" on [-1,1] images is 4/255')},
    ),
    "mist-semantic": Attack("mist.mist_semantic", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "mist-fused": Attack("mist.mist_fused", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "glaze": Attack(
        "glaze.glaze",
        "Glaze, arXiv 2302.04222",
        "pipeline",
        "E + P + edit",
        {
            "capped": Preset(
                Ball(16 / 255, 500, 0.005, perceptual=GLAZE),
                "the open re-implementation's settings, with a cap on ℓ∞, which alone holds without features=lpips-…",
            ),
            "open": Preset(
                Ball(None, 500, 0.005, perceptual=GLAZE),
                "open re-implementation: p .05 in LPIPS, α 30, lr .01 on [-1,1]; give features=",
            ),
            "hard": Preset(
                Ball(None, 500, 0.005, perceptual=replace(GLAZE, hard=True)),
                "the same, and no image beyond p before it is rounded to grey levels",
            ),
        },
    ),
    "nightshade": Attack(
        "nightshade.nightshade",
        "Nightshade, arXiv 2310.13828",
        "pipeline",
        "E + generation",
        {
            "code": Preset(
                Ball(10.2 / 255, 500, 10.2 / 255, falls=True), "gen_poison.py: .04 of [0,1], of which a PNG holds 10/255"
            ),
            "paper": Preset(
                Ball(None, 500, 0.005, perceptual=Perceptual(0.07)),
                "paper: .07 in LPIPS and no other budget; give features=",
            ),
        },
    ),
    "advdm": Attack(
        "advdm.advdm",
        "AdvDM, arXiv 2302.04578",
        "pipeline",
        "E + U",
        {
            "diff-protect": replace(DIFF_PROTECT, source="as run by Diff-Protect: 16, 1 and 100 of 255ths"),
            "gridpure": Preset(Ball(4 / 255, 100, 0.5 / 255), 'GrIDPure\'s run of it: "8/255" on [-1,1] images is 4/255'),
        },
    ),
    "sds+": Attack("sds.sds_up", "Diff-Protect, arXiv 2311.12832", "pipeline", "E + U forward", {"diff-protect": DIFF_PROTECT}),
    "sds-": Attack(
        "sds.sds_down", "Diff-Protect, arXiv 2311.12832", "pipeline", "E + U forward", {"diff-protect": DIFF_PROTECT}
    ),
    "anti-dreambooth": Attack(
        "antidreambooth.antidreambooth",
        "Anti-DreamBooth, arXiv 2303.15433",
        "pipeline",
        "2 (E + U)",
        {"aspl": Preset(Ball(6.375 / 255, 300, 0.6375 / 255), "ASPL: .05 and .005 on [-1,1], 50 rounds of 6 steps")},
        alone=True,
    ),
    "diffusionguard": Attack(
        "diffusionguard.diffusionguard",
        "DiffusionGuard, arXiv 2410.05694",
        "pipeline",
        "E + U",
        {"code": Preset(Ball(8 / 255, 800, 0.5 / 255), 'released code: "16/255" and 1/255 on [-1,1] images, 800 steps')},
    ),
    "ace": Attack(
        "ace.ace",
        "ACE, arXiv 2310.04687",
        "pipeline",
        "E + U",
        {"code": Preset(Ball(4 / 255, 250, 0.6375 / 255), '"8/255" and .005 on [-1,1]: 5 rounds of 50 steps, LoRA in between')},
        alone=True,
    ),
    "ace+": Attack(
        "ace.ace_plus",
        "ACE, arXiv 2310.04687",
        "pipeline",
        "E + U",
        {"code": Preset(Ball(4 / 255, 250, 0.6375 / 255), '"8/255" and .005 on [-1,1]: 5 rounds of 50 steps, LoRA in between')},
        alone=True,
    ),
    "styleguard": Attack(
        "styleguard.styleguard",
        "StyleGuard, arXiv 2505.18766",
        "pipeline",
        "2 (E + U)",
        {"code": Preset(Ball(6.375 / 255, 300, 0.6375 / 255), "their scripts: .05 and .005 on [-1,1], 50 rounds of 6 steps")},
        alone=True,
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
        {"default": Preset(Ball(15 / 255, 60, 2 / 255), "the largest budget of SRL-VAE's tables", restarts=2)},
        restarts=True,
    ),
    "worst-case": Attack(
        "worst_case.worst_case",
        "AutoAttack, arXiv 2003.01690",
        "vae",
        "5 E + 2 D",
        {"default": Preset(Ball(15 / 255, 60, 2 / 255), "the largest budget of SRL-VAE's tables")},
        restarts=True,
    ),
}
