"""Image autoencoders of diffusers behind one class: images in [0,1] go in, and mean, sampled or scaled latents come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.files import fill_folder, read_record, write_json
from srlvae.images import Images, check_images
from srlvae.provenance import fingerprint
from srlvae.rng import Generators, normal_like
from srlvae.words import shortened

# The submodules whose parameters act on `encode` and not on `decode`.
ENCODER_MODULES = ("encoder", "quant_conv")
# Autoencoders for video that models of images use, too: an image is a video of one frame. They clamp what they decode.
OF_ONE_FRAME = ("AutoencoderKLQwenImage", "AutoencoderKLWan")

# Settings that latents are scaled by.
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
# Nothing that scales latents is larger.
LARGEST = 1e6

Latents = Float[Tensor, "b c hf wf"]


class VAE:
    """An autoencoder of diffusers, used as differentiable functions. The model inside keeps its mode and its `requires_grad`.

    Images are float32 `b 3 h w` in [0,1], with sides that are multiples of `factor`. Latents are `b channels h/factor w/factor`
    and unscaled unless they are called `scaled`. A model without a posterior, such as AutoencoderTiny, has `has_posterior`
    False, and its latents serve as both mean and sample.

    Raises InputError for a model that is not an image autoencoder.
    """

    def __init__(self, model: Any):
        self.model = model
        self.scaling_factor = _number(model.config, "scaling_factor", 1.0)
        self.shift_factor = _number(model.config, "shift_factor", 0.0)
        self.statistics = _statistics(model.config)
        self.has_frames = type(model).__name__ in OF_ONE_FRAME
        self.channels, self.factor = self._probe()

    def _probe(self) -> tuple[int, int]:
        """Latent channels and reduction factor, found by sending a small image there and back."""
        size, name = 64, type(self.model).__name__
        try:
            with torch.no_grad():
                x = torch.zeros(1, 3, size, size, device=self.device)
                latents, self.has_posterior = self.mean(x), hasattr(self._encode(x), "latent_dist")
                shape, back = latents.shape, self.decode(latents).shape
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(f"{name} does not encode images `b 3 h w`; give an image autoencoder ({error})") from error
        if len(shape) != 4 or back != (1, 3, size, size):
            raise InputError(f"{name} encodes images to {tuple(shape)}; give an image autoencoder, not one for video or sound")
        return shape[1], size // shape[2]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.model.parameters()).dtype

    def encoder_modules(self) -> dict[str, nn.Module]:
        """The submodules that hardening may change, by name."""
        found = {name: getattr(self.model, name, None) for name in ENCODER_MODULES}
        return {name: module for name, module in found.items() if module is not None}

    def check_size(self, height: int, width: int) -> None:
        """Raise InputError if a height or width in pixels is not a multiple of `factor`."""
        if height % self.factor or width % self.factor:
            raise InputError(f"{height} x {width} pixels: this VAE takes multiples of {self.factor}")

    def _encode(self, x: Images, checked: bool = True):
        x = ((check_images(x) if checked else x) * 2 - 1).to(self.dtype)
        return self.model.encode(self._laid_out(x))

    def _laid_out(self, values: Tensor) -> Tensor:
        """With an axis of time where the model has one, and else channels last, which CPUs convolve faster."""
        return values.unsqueeze(2) if self.has_frames else values.contiguous(memory_format=torch.channels_last)

    def _of_image(self, values: Tensor) -> Tensor:
        """In float32, and without the axis of time where there is one."""
        return (values.squeeze(2) if self.has_frames else values).float()

    def mean(self, x: Images) -> Latents:
        """The mean latent of each image, in float32."""
        return self.mean_unchecked(check_images(x))

    def mean_unchecked(self, x: Images) -> Latents:
        """As `mean`, of images that are known to keep the contract: a look at their range would wait for a GPU."""
        output = self._encode(x, checked=False)
        posterior = getattr(output, "latent_dist", None)
        return self._of_image(posterior.mean if posterior is not None else _latents(output))

    def posterior(self, x: Images) -> tuple[Latents, Latents]:
        """The mean and the log-variance of the latent, in float32. Raises InputError for a model without a posterior."""
        posterior = getattr(self._encode(x), "latent_dist", None)
        if posterior is None:
            raise InputError(f"{type(self.model).__name__} has no posterior: its latents have no variance")
        return self._of_image(posterior.mean), self._of_image(posterior.logvar)

    def sample(self, x: Images, generators: Generators) -> Latents:
        """A draw from the posterior, image i from generator i. Without a posterior this is the mean."""
        if not self.has_posterior:
            return self.mean(x)
        return drawn(*self.posterior(x), generators)

    def to_scaled(self, latents: Latents) -> Latents:
        """Convert latents to what the diffusion model sees: (latents − shift) · scale.

        With a mean and a deviation of each channel it is (latents − shift − mean) · scale / deviation.
        """
        if self.statistics is None:
            return (latents - self.shift_factor) * self.scaling_factor
        mean, std = (part.to(latents) for part in self.statistics)
        return (latents - self.shift_factor - mean) * self.scaling_factor / std

    def from_scaled(self, scaled: Latents) -> Latents:
        """Undo `to_scaled`: scaled / scale + shift, and with statistics scaled · deviation / scale + mean + shift."""
        if self.statistics is None:
            return scaled / self.scaling_factor + self.shift_factor
        mean, std = (part.to(scaled) for part in self.statistics)
        return scaled * std / self.scaling_factor + mean + self.shift_factor

    def settings(self) -> dict[str, Any]:
        """What images depend on besides weights, as plain data: the scaling of latents."""
        return {key: self.model.config.get(key) for key in SCALING}

    def decode(self, latents: Latents) -> Images:
        """Images of unscaled latents, in float32 and *not* clamped, as a clamp would stop the gradient."""
        return (self._of_image(self.model.decode(self._laid_out(latents.to(self.dtype))).sample) + 1) / 2

    def reconstruct(self, x: Images) -> Images:
        """The image that decoding the mean latent gives, clamped to [0,1]."""
        return self.decode(self.mean(x)).clamp(0, 1)

    def fingerprint(self) -> str:
        """The SHA-256 of all weights as float32, with names and shapes. It is the same for the same values in any file."""
        return fingerprint(self.model)

    def save(self, folder: Path, variant: str | None = None) -> None:
        """Write config.json and safetensors to `folder` in diffusers' format, without the path that the model came from.

        variant: a part of the weights' file name, such as fp16.
        """
        fill_folder(Path(folder), lambda partial: self._save(partial, variant), last="config.json")

    def _save(self, folder: Path, variant: str | None) -> None:
        self.model.save_pretrained(folder, safe_serialization=True, variant=variant)
        # Where the model was loaded from is nobody's business.
        config = read_record(folder / "config.json")
        write_json(folder / "config.json", {key: value for key, value in config.items() if key != "_name_or_path"})


def _number(config: Any, name: str, default: float) -> float:
    """A number of the configuration, `default` where it has none. Raises InputError for what is no finite number."""
    value = getattr(config, name, None) or default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise InputError(f"the configuration of the VAE has {name} {shortened(value)}; a finite number is needed")
    return float(value)


def _statistics(config: Any) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation of each latent channel, `c 1 1`, where the configuration has them."""
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return None
    try:
        found = torch.tensor([list(mean), list(std)], dtype=torch.float32)
        if not found.isfinite().all() or not found[1].all():
            raise ValueError("a deviation is 0, or a number is not finite")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the configuration of the VAE has latents_mean and latents_std that are not numbers: {error}"
        ) from error
    return found[0].view(-1, 1, 1), found[1].view(-1, 1, 1)


def _latents(output: Any) -> Tensor:
    """What an encoder without a posterior returns. The field of AutoencoderDC is in the singular."""
    return output.latents if hasattr(output, "latents") else output.latent


def drawn(mean: Latents, log_variance: Latents, generators: Generators) -> Latents:
    """A draw from posteriors of this mean and log-variance, image i from generator i."""
    return mean + (log_variance / 2).exp() * normal_like(mean, generators)
