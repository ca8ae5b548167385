"""A fine-tuning from a folder of images to a folder with what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import digest, make_readable, write_json
from srlvae.finetune.captions import read_captions
from srlvae.finetune.loop import FinetuneConfig, Stepped, encode, tune
from srlvae.models.pipeline import Pipeline

RECORD, CHECKPOINT = "finetune.json", "checkpoint.safetensors"


def finetune(
    pipeline: Pipeline,
    images: Path,
    out: Path,
    config: FinetuneConfig,
    *,
    captions: Path | None = None,
    prompt: str | None = None,
    stepped: Stepped = lambda step, loss: None,
) -> Pipeline:
    """Fine-tune a copy of the pipeline's UNet on the images below `images` and write it to `out`; the pipeline stays as it was.

    Captions: see `read_captions`. `out` gets the whole pipeline in diffusers' format, or with LoRA
    `pytorch_lora_weights.safetensors` alone; an interrupted run goes on from its checkpoint there. Returns the tuned pipeline.
    Raises: InputError for images without captions, several processes, an `out` of other settings or with a result, or a loss
    that is no number.
    """
    if PartialState().num_processes > 1:
        raise InputError("fine-tuning runs in one process; start it without accelerate launch")
    paths, texts = read_captions(images, captions, prompt)
    run = {"config": asdict(config), "vae": pipeline.vae.fingerprint(), "networks": pipeline.fingerprint()}
    root = images if images.is_dir() else images.parent
    run |= {"images": {path.relative_to(root).as_posix(): digest(path) for path in paths}, "captions": texts}
    _claim(out, run)
    latents = encode(pipeline, paths, config.seed)
    tuned = tune(pipeline, latents, texts, config, checkpoint=out / CHECKPOINT, stepped=stepped)
    if config.lora_rank:
        _save_lora(tuned, out)
    else:
        tuned.pipe.save_pretrained(out)
    for weights in out.rglob("*.safetensors"):
        make_readable(weights)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return tuned


def _claim(out: Path, run: dict) -> None:
    """Record the run in `out`. A record of another run counts only where that came to a checkpoint."""
    record = out / RECORD
    if (out / CHECKPOINT).exists():
        if json.loads(record.read_text(encoding="utf-8")) != json.loads(json.dumps(run)):
            raise InputError(f"{out} holds a run of other images or settings; give another --out")
    elif out.exists() and any(path != record and path.name[0] != "." for path in out.iterdir()):
        holds = "holds a result already" if record.exists() else "has something else in it"
        raise InputError(f"{out} {holds}; give a new or empty folder")
    write_json(record, run)


def _save_lora(tuned: Pipeline, out: Path) -> None:
    (peft,) = need("finetune", "peft")
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers

    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(tuned.pipe.unet))
    type(tuned.pipe).save_lora_weights(out, unet_lora_layers=layers)
