"""The keys under which a benchmark keeps what it makes: of everything that it was made from, the code included."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from srlvae.provenance import code_digest

# The code that makes what each stage of a benchmark keeps. After a change of that code it is made anew.
IMAGE_CODE = ("images", "rng", "models")
MEASURE_CODE = ("metrics", "bench/distances", "bench/estimates", "bench/rows")
TUNING_CODE = ("attacks", "purify", "training", "finetune", "scan", "bench/attacked", "bench/purifiers")
POISON_CODE = ("bench/poisons", "bench/poison_defences", "bench/poison_tuning", "bench/points")
STYLE_CODE = ("bench/kinds", "bench/kinds_drawn", "bench/kinds_shared", "bench/styles")
MIMIC_CODE = ("bench/mimics", "bench/points")
STAGES = {
    "noisy": ("images", "rng", "attacks/noise", "attacks/table", "attacks/contrast", "bench/attacked"),
    "attacked": (*IMAGE_CODE, "attacks", "purify", "bench/attacked"),
    "looked": (*IMAGE_CODE, "scan/evidence"),
    "purified": (*IMAGE_CODE, "purify", "bench/purifiers"),
    "edited": (*IMAGE_CODE, "bench/editor"),
    "timed": (*IMAGE_CODE, "purify", "bench/costs"),
    "compared": (*IMAGE_CODE, *MEASURE_CODE),
    "reconstructed": (*IMAGE_CODE, *MEASURE_CODE, "bench/reconstructed"),
    "poisoned": (*IMAGE_CODE, *MEASURE_CODE, *TUNING_CODE, *POISON_CODE),
    "mimicked": (*IMAGE_CODE, *MEASURE_CODE, *TUNING_CODE, *STYLE_CODE, *MIMIC_CODE),
}


def key_of(stage: str, **made_from: Any) -> str:
    """The key of what a stage makes: the SHA-256 of `made_from`, written as JSON, and of the stage's own code.

    `stage` is a name in STAGES, which lists the code that each stage depends on. A change of that code changes the key.
    """
    made_by = {"stage": stage, "code": code_digest(*STAGES[stage]), **made_from}
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
