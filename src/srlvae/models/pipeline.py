"""Pipelines like Stable Diffusion's as functions: the differentiable parts that attacks need, and the calls that users make.

One class serves SD 1.x, SD 2.x and SDXL. The pipeline that is handed in stays as it was: every call builds its own scheduler,
and `with_vae` returns another `Pipeline` around the same networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from srlvae.errors import BlackedOutError, InputError
from srlvae.images import Images, check_images
from srlvae.models.edit_settings import GUIDANCE, STEPS, STRENGTH, steps_run
from srlvae.models.lazy import library
from srlvae.models.vae import VAE, Latents
from srlvae.precision import computing
from srlvae.provenance import fingerprint
from srlvae.rng import Generators

# Kept by the pipelines of all versions; what else a pipeline has (safety checker, image encoder) goes along untouched.
NEEDED = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
# Words of a prompt, to which shorter ones are filled up.
LONGEST = 2**16
# A mask and latents, side by side.
Kept = Float[Tensor, "b seen hf wf"]
# Settings that pipelines of one family share, beside their networks.
SWITCHES = ("requires_safety_checker", "force_zeros_for_empty_prompt")


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told of `b` prompts.

    `embeds` are the prompts' embeddings `b tokens width`. `added` has SDXL's pooled embeddings and image sizes, and is empty
    for other pipelines.
    """

    embeds: Tensor
    added: dict[str, Tensor]


class Pipeline:
    """A text-to-image pipeline of diffusers as functions; it generates in `precision`. Scaled latents: see `VAE.to_scaled`.

    Raises InputError for a pipeline without the parts that Stable Diffusion has, or whose UNet does not fit its VAE.
    """

    def __init__(self, pipe: Any, precision: str = "no"):
        missing = [name for name in NEEDED if getattr(pipe, name, None) is None]
        if missing:
            raise InputError(f"{type(pipe).__name__} has no {', '.join(missing)}; give a pipeline like Stable Diffusion's")
        self.pipe, self.precision = pipe, precision
        self.vae = VAE(pipe.vae)
        if getattr(pipe.tokenizer, "model_max_length", 0) > LONGEST:
            raise InputError(
                f"the tokenizer makes prompts of {pipe.tokenizer.model_max_length} words; at most {LONGEST} are taken"
            )
        channels = pipe.unet.config.in_channels
        # A UNet made for inpainting also sees the mask and the latents of what is kept.
        self.inpaints: bool = channels == 2 * self.vae.channels + 1
        if channels != self.vae.channels and not self.inpaints:
            raise InputError(
                f"the UNet takes {channels} channels and the VAE gives {self.vae.channels}; they do not belong together"
            )

    @property
    def device(self) -> torch.device:
        """The device of the UNet."""
        return self.pipe.unet.device

    @property
    def size(self) -> int:
        """The side in pixels of the images that the UNet was made for."""
        return self.pipe.unet.config.sample_size * self.vae.factor

    @property
    def is_xl(self) -> bool:
        """Whether this is a pipeline like SDXL's, with two text encoders."""
        return getattr(self.pipe, "text_encoder_2", None) is not None

    def fingerprint(self) -> str:
        """The SHA-256 of the weights of the UNet and the text encoders; see `VAE.fingerprint`."""
        parts = [getattr(self.pipe, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
        return fingerprint(*(part for part in parts if part is not None))

    def settings(self) -> dict[str, Any]:
        """What images depend on besides weights, as plain data: scheduler, scaling of latents, and precision if not float32."""
        scheduler = {key: value for key, value in self.pipe.scheduler.config.items() if key[0] != "_"}
        found = {"scheduler": type(self.pipe.scheduler).__name__, **scheduler, **self.vae.settings()}
        found |= {} if self.precision == "no" else {"precision": self.precision}
        return json.loads(json.dumps(found, default=str))

    def with_vae(self, vae: VAE) -> Pipeline:
        """The same networks with another VAE."""
        return Pipeline(self._build(type(self.pipe), vae=vae.model), self.precision)

    def with_unet(self, unet: nn.Module) -> Pipeline:
        """The same networks with another UNet."""
        return Pipeline(self._build(type(self.pipe), unet=unet), self.precision)

    def without_safety_checker(self) -> Pipeline:
        """The same networks without the safety checker, which turns images black that it suspects. This is for measurements."""
        if getattr(self.pipe, "safety_checker", None) is None:
            return self
        pipe = self._build(type(self.pipe), safety_checker=None, requires_safety_checker=False)
        return Pipeline(pipe, self.precision)

    def _build(self, kind: Any, **changed: Any) -> Any:
        """A pipeline of class `kind` of the same networks, with a scheduler of its own."""
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        switches = {name: self.pipe.config[name] for name in SWITCHES if name in self.pipe.config}
        parts = {**self.pipe.components, "scheduler": scheduler, **switches, **changed}
        if self.is_xl:
            parts["add_watermarker"] = getattr(self.pipe, "watermark", None) is not None
        pipe = kind(**parts)
        pipe.register_to_config(_name_or_path=self.pipe.config.get("_name_or_path"))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    # --- what attacks differentiate

    def condition(self, prompts: list[str], size: tuple[int, int] | None = None) -> Conditioning:
        """Encode prompts. `size` is the height and width of the images, which SDXL is told; by default the pipeline's own."""
        with torch.no_grad():
            found = self.pipe.encode_prompt(
                prompts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        if not self.is_xl:
            return Conditioning(found[0], {})
        height, width = size or (self.size, self.size)
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=found[0].dtype, device=self.device)
        return Conditioning(found[0], {"text_embeds": found[2], "time_ids": sizes.repeat(len(prompts), 1)})

    def unconditional(self, count: int, size: tuple[int, int] | None = None) -> Conditioning:
        """The conditioning that guidance leads away from: the empty prompt, or zeros where a pipeline of SDXL says so."""
        empty = self.condition([""] * count, size)
        if not (self.is_xl and self.pipe.config.get("force_zeros_for_empty_prompt")):
            return empty
        return Conditioning(
            torch.zeros_like(empty.embeds), {**empty.added, "text_embeds": torch.zeros_like(empty.added["text_embeds"])}
        )

    def predict(
        self, noisy: Latents, t: Int[Tensor, " b"] | Tensor, conditioning: Conditioning, kept: Kept | None = None
    ) -> Latents:
        """The UNet's output in float32. `kept` is what a UNet for inpainting sees besides; see `inpainting_input`.

        Raises InputError for a UNet for inpainting without `kept`.
        """
        unet = self.pipe.unet
        if self.inpaints and kept is None:
            raise InputError("this UNet was made for inpainting; only attacks on inpainting run on it")
        seen = noisy if kept is None else torch.cat([noisy, kept], dim=1)
        output = unet(seen.to(unet.dtype), t, conditioning.embeds.to(unet.dtype), added_cond_kwargs=conditioning.added)
        return output.sample.float()

    # --- the calls of users

    def check_prompted(self) -> None:
        """Raise InputError for a UNet that makes no images from a prompt alone."""
        if self.inpaints:
            raise InputError(
                f"this UNet was made for inpainting: it takes {self.pipe.unet.config.in_channels} channels, latents with a "
                "mask beside them, so it neither generates nor edits from a prompt alone; give a pipeline for text to image"
            )

    @torch.no_grad()
    def generate(self, prompts: list[str], generators: Generators, *, steps: int = STEPS, guidance: float = GUIDANCE) -> Images:
        """Images of prompts by diffusers' own text-to-image pipeline, image i from generator i.

        Raises BlackedOutError if the pipeline has a safety checker that suspects one of them.
        """
        kind = library.StableDiffusionXLPipeline if self.is_xl else library.StableDiffusionPipeline
        side = {"height": self.size, "width": self.size}
        return self._call(kind, prompts, generators, **side, num_inference_steps=steps, guidance_scale=guidance)

    @torch.no_grad()
    def edit(
        self,
        x: Images,
        prompts: list[str],
        generators: Generators,
        *,
        strength: float = STRENGTH,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        stepped: Callable[[int], object] | None = None,
    ) -> Images:
        """Images `x` edited by diffusers' own image-to-image pipeline, image i with prompt i and from generator i.

        stepped: called after each denoising step that is run, with its number from 1.

        Raises InputError for a size that is no multiple of the VAE's factor or no step to run, and BlackedOutError.
        """
        kind = library.StableDiffusionXLImg2ImgPipeline if self.is_xl else library.StableDiffusionImg2ImgPipeline
        self.vae.check_size(*check_images(x).shape[-2:])
        steps_run(steps, strength)
        # diffusers takes a tensor with any value below 0, which rounding may leave, for one on [-1,1].
        options = {"image": x.clamp(0, 1), "strength": strength, "num_inference_steps": steps, "guidance_scale": guidance}
        if stepped:
            options["callback_on_step_end"] = lambda pipe, number, t, tensors: (stepped(number + 1), tensors)[1]
        return self._call(kind, prompts, generators, **options)

    def _call(self, kind: Any, prompts: list[str], generators: Generators, **options: Any) -> Images:
        self.check_prompted()
        with computing(self.precision, self.device):
            found = self._build(kind)(prompts, generator=list(generators), output_type="pt", **options)
        images = found.images.float()
        if not images.isfinite().all():
            raise InputError("the pipeline makes images that are not finite numbers; check its weights and its settings")
        if black := [i for i, flag in enumerate(getattr(found, "nsfw_content_detected", None) or ()) if flag]:
            raise BlackedOutError(images, black)
        return images
