"""Every image autoencoder of diffusers behind one door: images in [0,1] in, latents named for what they are out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.auto_model import AutoModel
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.files import make_readable, write_json
from srlvae.images import Images
from srlvae.rng import Generators, normal_like

# The submodules whose parameters act on `encode` and not on `decode`.
ENCODER_MODULES = ("encoder", "quant_conv")

Latents = Float[Tensor, "b c hf wf"]


class VAE:
    """An autoencoder of diffusers, used as a function. Differentiable; the model inside keeps its mode and `requires_grad`.

    Images are float32 `b 3 h w` in [0,1], sides multiples of `factor`. Latents are `b channels h/factor w/factor`, unscaled
    unless called `scaled`. Where a model has no posterior (AutoencoderTiny), its latents are mean and sample both.
    """

    def __init__(self, model: ModelMixin):
        self.model = model
        self.scaling_factor: float = getattr(model.config, "scaling_factor", None) or 1.0
        self.shift_factor: float = getattr(model.config, "shift_factor", None) or 0.0
        self.channels, self.factor = self._probe()

    def _probe(self) -> tuple[int, int]:
        """Latent channels and reduction factor, from a small image there and back."""
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
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def encoder_modules(self) -> dict[str, nn.Module]:
        """The submodules that hardening may change, by name."""
        found = {name: getattr(self.model, name, None) for name in ENCODER_MODULES}
        return {name: module for name, module in found.items() if module is not None}

    def check_size(self, height: int, width: int) -> None:
        if height % self.factor or width % self.factor:
            raise InputError(f"{height} x {width} pixels: this VAE takes multiples of {self.factor}")

    def _encode(self, x: Images):
        return self.model.encode((x * 2 - 1).to(self.dtype))

    def mean(self, x: Images) -> Latents:
        """The mean latent, in float32."""
        output = self._encode(x)
        posterior = getattr(output, "latent_dist", None)
        return (posterior.mean if posterior is not None else _latents(output)).float()

    def posterior(self, x: Images) -> tuple[Latents, Latents]:
        """Mean and log-variance of the latent, in float32. Raises InputError for a model without a posterior."""
        posterior = getattr(self._encode(x), "latent_dist", None)
        if posterior is None:
            raise InputError(f"{type(self.model).__name__} has no posterior: its latents have no variance")
        return posterior.mean.float(), posterior.logvar.float()

    def sample(self, x: Images, generators: Generators) -> Latents:
        """A draw from the posterior, image i from generator i; the mean where there is no posterior."""
        if not self.has_posterior:
            return self.mean(x)
        mean, log_variance = self.posterior(x)
        return mean + (log_variance / 2).exp() * normal_like(mean, generators)

    def to_scaled(self, latents: Latents) -> Latents:
        """What the diffusion model sees: (latents − shift) · scale."""
        return (latents - self.shift_factor) * self.scaling_factor

    def from_scaled(self, scaled: Latents) -> Latents:
        return scaled / self.scaling_factor + self.shift_factor

    def decode(self, latents: Latents) -> Images:
        """Images of unscaled latents, in float32, *not* clamped: a clamp would stop the gradient."""
        return (self.model.decode(latents.to(self.dtype)).sample.float() + 1) / 2

    def reconstruct(self, x: Images) -> Images:
        """decode(mean(x)), clamped to [0,1]."""
        return self.decode(self.mean(x)).clamp(0, 1)

    def fingerprint(self) -> str:
        """SHA-256 of all weights as float32, with names and shapes: the same for the same values in any file or precision."""
        return fingerprint(self.model)

    def save(self, folder: Path) -> None:
        """Write config.json and safetensors in diffusers' format."""
        self.model.save_pretrained(folder, safe_serialization=True)
        # Where the model was loaded from is nobody's business.
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        write_json(Path(folder) / "config.json", {key: value for key, value in config.items() if key != "_name_or_path"})
        for weights in Path(folder).glob("*.safetensors"):
            make_readable(weights)


def fingerprint(*models: nn.Module) -> str:
    """SHA-256 of all weights as float32, with names and shapes."""
    digest = hashlib.sha256()
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _latents(output: Any) -> Tensor:
    """What an encoder without a posterior returns; AutoencoderDC's field is in the singular."""
    return output.latents if hasattr(output, "latents") else output.latent


def load_vae(source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VAE:
    """The VAE in a folder, in a pipeline's folder, under a hub id, or bundled under a name; frozen, in evaluation mode.

    Raises: InputError that says what is missing or why the weights were refused.
    """
    from srlvae.zoo import bundled, encoder_file

    if encoder_file(str(source)):
        return _load_encoder(str(source), device, dtype)
    folder = bundled(str(source)) or Path(source)
    if folder.is_dir():
        model = _load(str(_vae_folder(folder)), dtype, local_files_only=True)
    elif folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/")):
        raise InputError(f"{source} is no folder, hub id or bundled VAE")
    else:
        model = _load_from_hub(str(source), dtype)
    nn.Module.to(model, device)
    return VAE(model.eval().requires_grad_(False))


def _load_encoder(name: str, device: torch.device | str, dtype: torch.dtype) -> VAE:
    """A bundled encoder on its base, which comes from the hub or its cache."""
    from srlvae.encoders import apply_encoder, read_encoder

    encoder = read_encoder(name)
    try:
        base = load_vae(encoder.facts["base"]["hub"])
    except InputError as error:
        raise InputError(f"{name} needs its base: {error}; with a local copy of it: srlvae apply {name} --to FOLDER") from error
    vae = apply_encoder(encoder, base)
    nn.Module.to(vae.model, device, dtype)
    return vae


def _vae_folder(folder: Path) -> Path:
    """`folder`, or its `vae/` if it is a pipeline's; checked to hold a config and weights."""
    if (folder / "model_index.json").is_file():
        folder = folder / "vae"
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{folder} has no config.json; give the folder of a diffusers autoencoder or pipeline")
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{config} is not a JSON object ({error})") from error
    if not name:
        raise InputError(f"{config} names no class (`_class_name`), so it is no diffusers model")
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    if not weights:
        raise InputError(f"{folder} has no weights; expected diffusion_pytorch_model.safetensors beside config.json")
    return folder


def _load(source: str, dtype: torch.dtype, **options: Any) -> Any:
    try:
        config: Any = AutoModel.load_config(source, **options)
        loaded = getattr(diffusers, config["_class_name"]).from_pretrained(
            source, torch_dtype=dtype, low_cpu_mem_usage=False, output_loading_info=True, **options
        )
    except Exception as error:  # diffusers, safetensors and torch each raise their own kinds
        raise InputError(f"cannot load a VAE from {source}: {error}") from error
    model, info = loaded
    if info["missing_keys"]:
        raise InputError(f"{source}: weights are missing, {', '.join(info['missing_keys'][:3])} and so on")
    broken = [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]
    if broken:
        raise InputError(f"{source}: weights are not finite, {', '.join(broken[:3])} and so on")
    return model


def _load_from_hub(name: str, dtype: torch.dtype) -> ModelMixin:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(name, "model_index.json")
    except EntryNotFoundError:
        return _load(name, dtype)
    except Exception as error:
        raise InputError(f"cannot reach {name} on the hub, and it is no folder or bundled VAE ({error})") from error
    return _load(name, dtype, subfolder="vae")
