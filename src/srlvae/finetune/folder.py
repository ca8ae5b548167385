"""A fine-tuning from a folder of images to a folder with what came of it."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import digest, make_readable, write_json
from srlvae.finetune.captions import read_captions
from srlvae.finetune.kohya import NAME as KOHYA
from srlvae.finetune.kohya import save_kohya
from srlvae.finetune.loop import FinetuneConfig, Stepped, encode, tune
from srlvae.models.pipeline import Pipeline
from srlvae.runs import claim

RECORD, RUN, CHECKPOINT = "finetune.json", "checkpoints/run.json", "checkpoints/last.safetensors"
# Settings that change nothing of what comes out.
FREE = ("checkpoint_every",)


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
    `pytorch_lora_weights.safetensors`, and the same for other programs in `kohya_lora.safetensors`; an interrupted run goes on
    from its checkpoint there. Returns the tuned pipeline.
    Raises: InputError for images without captions, several processes, an `out` of other settings or with a result, or a loss
    that is no number.
    """
    if PartialState().num_processes > 1:
        raise InputError("fine-tuning runs in one process; start it without accelerate launch")
    paths, texts = read_captions(images, captions, prompt)
    run = {"config": asdict(config), "vae": pipeline.vae.fingerprint(), "networks": pipeline.fingerprint()}
    root = images if images.is_dir() else images.parent
    run |= {"images": {path.relative_to(root).as_posix(): digest(path) for path in paths}, "captions": texts}
    claim(out, RUN, run, free=FREE, finished=RECORD)
    latents = encode(pipeline, paths, config.seed)
    tuned = tune(pipeline, latents, texts, config, checkpoint=out / CHECKPOINT, stepped=stepped)
    if config.lora_rank:
        _save_lora(tuned, out, config.lora_rank)
    else:
        tuned.pipe.save_pretrained(out)
    for weights in out.rglob("*.safetensors"):
        make_readable(weights)
    write_json(out / RECORD, run)
    shutil.rmtree((out / CHECKPOINT).parent)
    return tuned


def _save_lora(tuned: Pipeline, out: Path, rank: int) -> None:
    (peft,) = need("finetune", "peft")
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers

    layers = peft.get_peft_model_state_dict(tuned.pipe.unet)
    type(tuned.pipe).save_lora_weights(out, unet_lora_layers=convert_state_dict_to_diffusers(layers))
    save_kohya(layers, out / KOHYA, rank=rank, is_xl=tuned.is_xl)
