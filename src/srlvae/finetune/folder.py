"""Fine-tuning from a folder of images to a folder with the result."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.extras import need
from srlvae.files import digest, make_readable, write_json
from srlvae.finetune.captions import read_captions
from srlvae.finetune.kohya import NAME as KOHYA
from srlvae.finetune.kohya import save_kohya
from srlvae.finetune.loop import FinetuneConfig, encode_files, tune
from srlvae.models.pipeline import Pipeline
from srlvae.runs import claim
from srlvae.training.processes import processes

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
    listener: Listener | None = None,
) -> Pipeline:
    """Fine-tune a copy of the pipeline's UNet on the images below `images`, write it to `out`, and return the tuned pipeline.

    Captions are as in `read_captions`. `out` gets the whole pipeline in diffusers' format, or with LoRA the files
    `pytorch_lora_weights.safetensors` and, for other programs, `kohya_lora.safetensors`. An interrupted run goes on from its
    checkpoint in `out`. The listener hears of the images encoded and of each step.

    Raises InputError for images without captions, for several processes, if `out` holds a run with other settings or a finished
    one, or for a loss that is not finite.
    """
    if processes().num_processes > 1:
        raise InputError("fine-tuning runs in one process; start it without torchrun")
    paths, texts = read_captions(images, captions, prompt)
    run = {"config": asdict(config), "vae": pipeline.vae.fingerprint(), "networks": pipeline.fingerprint()}
    root = images if images.is_dir() else images.parent
    run |= {"images": {path.relative_to(root).as_posix(): digest(path) for path in paths}, "captions": texts}
    claim(out, RUN, run, free=FREE, finished=RECORD)
    listener = listener or Listener()
    latents = encode_files(pipeline, paths, config.seed, listener)
    tuned = tune(pipeline, latents, texts, config, checkpoint=out / CHECKPOINT, listener=listener)
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
