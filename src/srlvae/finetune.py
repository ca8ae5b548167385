"""Fine-tuning a pipeline on captioned images, as people do: all of the UNet, or LoRA on its attention. VAE and texts stay.

What the UNet learns of an image is what the pipeline's VAE makes of it: a hardened encoder sees a poison as what it shows.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from srlvae.checkpoint import load_checkpoint, save_checkpoint
from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import digest, make_readable, write_json
from srlvae.images import find_images, read_square
from srlvae.pipeline import Conditioning, Pipeline
from srlvae.precision import make_accelerator
from srlvae.rng import generators

RECORD, CHECKPOINT = "finetune.json", "checkpoint.safetensors"
METADATA = ("metadata.jsonl", "metadata.csv")
# Of the attention layers, as diffusers' own LoRA script.
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
ENCODED_AT_ONCE = 8
# Captions whose embeddings are kept, some hundred kilobytes each.
CAPTIONS_KEPT = 1000

# Told of each step: its number and the loss.
Stepped = Callable[[int, float], None]


@dataclass(frozen=True)
class FinetuneConfig:
    """lora_rank: 0 trains all of the UNet. empty_captions: the share of captions left out, for guidance. learning_rate: at its
    peak, see `rate`."""

    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 1e-4
    lora_rank: int = 0
    empty_captions: float = 0.1
    warmup: int = 20
    seed: int = 0
    checkpoint_every: int = 100
    precision: str = "auto"


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


def read_captions(images: Path, captions: Path | None = None, prompt: str | None = None) -> tuple[list[Path], list[str]]:
    """Images below a folder and the caption of each.

    From `captions`, or metadata.jsonl or metadata.csv in the folder, with `file_name` (below that folder) and `text`, as
    Hugging Face's imagefolder; else from a .txt beside each image; or `prompt` for all, whatever there is. Raises InputError
    that names the first image without.
    """
    if prompt is not None and captions is not None:
        raise InputError("give one caption for all images or a file of captions, not both")
    paths = find_images(images)
    if prompt is not None:
        return paths, [prompt] * len(paths)
    found = [images / name for name in METADATA if (images / name).is_file()]
    table = captions or (found[0] if found else None)
    if table is not None:
        said = _read_table(table)
        root = images if images.is_dir() else images.parent
        texts = [said.get(path.relative_to(root).as_posix()) for path in paths]
    else:
        beside = [path.with_suffix(".txt") for path in paths]
        texts = [_read_text(file).strip() if file.is_file() else None for file in beside]
    missing = [path for path, text in zip(paths, texts, strict=True) if text is None]
    if missing:
        where = f"{table} has no line for it" if table else f"no {METADATA[0]} in {images} and no .txt beside it"
        raise InputError(f"{missing[0]} has no caption: {where}; give --captions or --prompt")
    return paths, [text for text in texts if text is not None]


def _read_table(path: Path) -> dict[str, str]:
    text = _read_text(path)
    try:
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            # Not splitlines: captions may have separators that JSON leaves as they are.
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        said = {PurePosixPath(row["file_name"]).as_posix(): row["text"] for row in rows}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"cannot read captions from {path}, lines with file_name and text: {error!r}") from error
    if wrong := [name for name, caption in said.items() if not isinstance(caption, str)]:
        raise InputError(f"the caption of {wrong[0]} in {path} is no text")
    return said


def _read_text(path: Path) -> str:
    """In UTF-8, with the mark at its beginning that spreadsheets write, or without."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read captions from {path}, text in UTF-8: {error}") from error


@torch.no_grad()
def encode(pipeline: Pipeline, paths: Sequence[Path], seed: int) -> Tensor:
    """Scaled latents `n c h w` of the centre squares, a draw of the posterior each, by the pipeline's VAE."""
    parts = []
    for start in range(0, len(paths), ENCODED_AT_ONCE):
        part = paths[start : start + ENCODED_AT_ONCE]
        x = torch.stack([read_square(path, pipeline.size) for path in part])
        parts.append(encode_images(pipeline, x, seed, start))
    return torch.cat(parts)


@torch.no_grad()
def encode_images(pipeline: Pipeline, x: Tensor, seed: int, first: int = 0) -> Tensor:
    """Scaled latents of images `n 3 h w`, image i drawn by generator (seed, first + i)."""
    parts = []
    for start in range(0, len(x), ENCODED_AT_ONCE):
        part = x[start : start + ENCODED_AT_ONCE].to(pipeline.device)
        draws = generators(seed, range(first + start, first + start + len(part)), part.device)
        parts.append(pipeline.vae.to_scaled(pipeline.vae.sample(part, draws)))
    return torch.cat(parts)


def tune(
    pipeline: Pipeline,
    latents: Tensor,
    captions: list[str],
    config: FinetuneConfig,
    *,
    checkpoint: Path | None = None,
    stepped: Stepped = lambda step, loss: None,
) -> Pipeline:
    """A pipeline around a copy of the UNet, trained on scaled latents `n c h w` and their captions; goes on from `checkpoint`.

    What a step sees is a function of (seed, step), so that a run that was cut off ends as one that was not. A KeyboardInterrupt
    out of `stepped` leaves a checkpoint of that step.
    """
    unet: Any = copy.deepcopy(pipeline.pipe.unet).requires_grad_(config.lora_rank == 0)
    if config.lora_rank:
        (peft,) = need("finetune", "peft")
        # peft draws the first weights from the global generator; a run is a function of its seed alone.
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            unet.add_adapter(peft.LoraConfig(r=config.lora_rank, lora_alpha=config.lora_rank, target_modules=TARGETS))
    elif unet.device.type == "cpu":
        # Plain attention: its backward pass is the faster one on CPUs.
        unet.set_attn_processor(AttnProcessor())
    accelerator = make_accelerator(config.precision)
    trained = [p for p in unet.parameters() if p.requires_grad]
    # Prepared, so that fp16's scaling of the loss is undone where gradients are clipped.
    optimizer: Any = accelerator.prepare(
        torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    )
    weights = nn.ParameterList(trained)
    state = load_checkpoint(checkpoint, {"unet": weights}, optimizer) if checkpoint and checkpoint.exists() else {"step": 0}

    def save(step: int) -> None:
        if checkpoint:
            save_checkpoint(checkpoint, {"unet": weights}, optimizer, {"step": step})

    condition = lru_cache(CAPTIONS_KEPT)(lambda text: pipeline.condition([text]))
    tuned = pipeline.with_unet(unet)
    for step in range(state["step"], config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(step, config)
        rng = np.random.default_rng((config.seed, step))
        # Generators take 63 bits.
        draw = torch.Generator().manual_seed((config.seed * 10**7 + step) % 2**63)
        picked = rng.integers(len(latents), size=config.batch_size)
        empty = rng.random(config.batch_size) < config.empty_captions
        said = ["" if left_out else captions[int(i)] for i, left_out in zip(picked, empty, strict=True)]
        z = latents[torch.from_numpy(picked)].to(pipeline.device)
        noise = torch.randn(z.shape, generator=draw).to(z)
        t = torch.randint(pipeline.pipe.scheduler.config.num_train_timesteps, (len(z),), generator=draw).to(z.device)
        with accelerator.autocast():
            loss = tuned.denoising_loss(z, together([condition(text) for text in said]), t, noise).mean()
        if not loss.isfinite():
            raise InputError(f"the loss is no number at step {step + 1}; give a lower --learning-rate")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        try:
            stepped(step + 1, loss.item())
        except KeyboardInterrupt:
            save(step + 1)
            raise
        if (step + 1) % config.checkpoint_every == 0:
            save(step + 1)
    unet.eval().requires_grad_(False)
    return tuned


def together(parts: list[Conditioning]) -> Conditioning:
    """One batch of several prompts' conditionings."""
    added = {key: torch.cat([part.added[key] for part in parts]) for key in parts[0].added}
    return Conditioning(torch.cat([part.embeds for part in parts]), added)


def rate(step: int, config: FinetuneConfig) -> float:
    """Of the learning rate: half a cosine to zero, times a linear warm-up."""
    return min(1.0, (step + 1) / max(config.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _save_lora(tuned: Pipeline, out: Path) -> None:
    (peft,) = need("finetune", "peft")
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers

    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(tuned.pipe.unet))
    type(tuned.pipe).save_lora_weights(out, unet_lora_layers=layers)
