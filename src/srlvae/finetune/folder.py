"""Fine-tuning from a folder of images to a folder with the result."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from srlvae.errors import InputError, UnreadableError
from srlvae.events import Listener
from srlvae.extras import need
from srlvae.files import fill_folder, write_json
from srlvae.finetune.captions import Captions, read_captions
from srlvae.finetune.kohya import NAME as KOHYA
from srlvae.finetune.kohya import save_kohya
from srlvae.finetune.latents import encode_files
from srlvae.finetune.loop import FinetuneConfig, tune
from srlvae.images import LeftOut, digest_of_picture
from srlvae.locks import holds
from srlvae.models.load import LORA
from srlvae.models.pipeline import Pipeline
from srlvae.models.prompts import warn_of_unread
from srlvae.runs import claim, earlier_record, end
from srlvae.training.processes import processes

RECORD, RUN, CHECKPOINT = "finetune.json", "checkpoints/run.json", "checkpoints/last.safetensors"
# The images that could be read; hidden, as a folder with nothing but a record counts as free.
USED = "checkpoints/.images.json"
# Settings that change nothing of what comes out.
FREE = ("checkpoint_every",)


@holds("out")
def finetune(
    pipeline: Pipeline,
    images: Path,
    out: Path,
    config: FinetuneConfig,
    *,
    captions: Captions | Path | None = None,
    prompt: str | None = None,
    listener: Listener | None = None,
) -> Pipeline:
    """Fine-tune a copy of the pipeline's UNet on the images below `images`, write it to `out`, and return the tuned pipeline.

    Captions are as in `read_captions`: `captions` is a file, or a file and the column of it that has them. `out` gets the whole
    pipeline in diffusers' format, or with LoRA the files `pytorch_lora_weights.safetensors` and, for other programs,
    `kohya_lora.safetensors`. An interrupted run goes on from its checkpoint in `out`. Images that cannot be read are left out,
    told to the listener and listed in `out`. The listener also hears of the images encoded and of each step.

    Raises InputError for images without captions, if no image can be read, for several processes, if `out` holds a run with
    other settings or a finished one, or for a loss that is not finite.
    """
    if processes().num_processes > 1:
        raise InputError("fine-tuning runs in one process; start it without torchrun")
    config.check()
    left_out = LeftOut(listener)
    given = captions if isinstance(captions, Captions) else Captions(captions)
    paths, texts = read_captions(images, given.table, prompt, column=given.column, left_out=left_out)
    run = {"config": asdict(config), "vae": pipeline.vae.fingerprint(), "networks": pipeline.fingerprint()}
    root = images if images.is_dir() else images.parent
    run |= {"images": {path.relative_to(root).as_posix(): _digest(path) for path in paths}, "captions": texts}
    left_out.check_left(len(paths))
    claim(out, RUN, run, free=FREE, finished=RECORD)
    try:
        latents, numbers = encode_files(pipeline, paths, config.seed, left_out)
        left_out.check_left(len(numbers))
    finally:
        left_out.write(out)
    _check_same(out, [paths[number].relative_to(root).as_posix() for number in numbers])
    texts = [texts[number] for number in numbers]
    warn_of_unread(pipeline, texts)
    if blank := sum(not text.strip() for text in texts):
        left_out.listener.says(f"{blank} of {len(texts)} captions are empty, so these images are learnt without one")
    tuned = tune(pipeline, latents, texts, config, checkpoint=out / CHECKPOINT, listener=listener)
    if config.lora_rank:
        _save_lora(tuned, out, config.lora_rank)
    else:
        fill_folder(out, tuned.pipe.save_pretrained, last="model_index.json")
    write_json(out / RECORD, run)
    end(out, RUN)
    return tuned


def _digest(path: Path) -> str:
    """The digest of a file, or that there is none; reading it as a picture will say why."""
    try:
        return digest_of_picture(path)
    except UnreadableError:
        return "not readable"


def _check_same(out: Path, used: list[str]) -> None:
    """Raise InputError if a run goes on with other images than it had, as after a package for more formats was installed."""
    if (out / CHECKPOINT).exists():
        earlier_record(out, USED, {"images": used})
    write_json(out / USED, {"images": used})


def _save_lora(tuned: Pipeline, out: Path, rank: int) -> None:
    (peft,) = need("finetune", "peft")
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers

    layers = peft.get_peft_model_state_dict(tuned.pipe.unet)
    named = convert_state_dict_to_diffusers(layers)
    fill_folder(out, lambda partial: type(tuned.pipe).save_lora_weights(partial, unet_lora_layers=named), last=LORA)
    save_kohya(layers, out / KOHYA, rank=rank, is_xl=tuned.is_xl)
