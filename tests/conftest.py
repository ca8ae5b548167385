"""Shared by all tests: shapes are checked at run time where CI asks for it, threads are few, models are small."""

from __future__ import annotations

import copy
import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from jaxtyping import install_import_hook

# Before PyTorch is loaded, here and in processes that tests start: on small models a second thread does nothing but wait, and
# each core has a worker of its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before the first import of the package: every annotated shape becomes a check. That takes a third of the time.
if os.environ.get("SRLVAE_SHAPES"):
    install_import_hook("srlvae", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKL, AutoencoderTiny  # noqa: E402

from srlvae.models.vae import VAE  # noqa: E402

P = ParamSpec("P")
T = TypeVar("T")
SHARED = Path(os.environ.get("SRLVAE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def built_once(build: Callable[P, T]) -> Callable[P, T]:
    """Let `build` make a thing once for each of its arguments, and give copies of it, which take a tenth of the time.

    The global generator is left as by `build`, which seeds it.
    """

    @functools.cache
    def first(*args: P.args, **kwargs: P.kwargs) -> tuple[T, torch.Tensor]:
        return build(*args, **kwargs), torch.get_rng_state()

    @functools.wraps(build)
    def another(*args: P.args, **kwargs: P.kwargs) -> T:
        made, state = first(*args, **kwargs)
        torch.set_rng_state(state)
        return copy.deepcopy(made)

    return another


@built_once
def small_kl(channels: int = 4, quant: bool = True) -> VAE:
    """A random AutoencoderKL of factor 4."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=channels,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
        scaling_factor=0.3,
        shift_factor=None if quant else 0.1,
        sample_size=32,
    )
    return VAE(model.eval().requires_grad_(False))


@built_once
def small_tiny() -> VAE:
    """A random AutoencoderTiny: no posterior."""
    torch.manual_seed(0)
    model = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    return VAE(model.eval().requires_grad_(False))


@pytest.fixture(autouse=True, scope="module")
def little_to_look_through():
    """What has been imported by now is no garbage: not to look through it again makes hardening twice as fast.

    Hardening collects garbage at each checkpoint, as memory may be short.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def counted_once():
    """What a step of hardening takes is counted once for each kind of step: most tests harden the same small VAE.

    A count takes as long as several steps. Tests of the memory itself are as before, as there each kind of step is another.
    """
    from srlvae.harden import memory

    count, known = memory.step_memory, dict[str, int]()

    def step_memory(vae, config, terms, batch, micro, checkpointing, half, features=None):
        kind = (type(vae.model), dict(vae.model.config), vae.model.dtype, config.objective, config.places, config.resolution)
        key = repr((kind, batch, micro, checkpointing, half, type(features), getattr(features, "name", None)))
        if key not in known:
            known[key] = count(vae, config, terms, batch, micro, checkpointing, half, features)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "step_memory", step_memory)
        yield


@pytest.fixture(scope="module")
def short_scores():
    """Attacks of the scores before and after take one step: they are half of the time of a short run of hardening."""
    from srlvae.harden import scores

    attack = scores._attack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_attack", lambda objective, x, seed, first, steps=1: attack(objective, x, seed, first, 1))
        yield


@pytest.fixture
def vae() -> VAE:
    return small_kl()


@pytest.fixture
def x() -> torch.Tensor:
    return smooth_images()


def smooth_images() -> torch.Tensor:
    """Two smooth random images, `2 3 32 32` in [0,1]."""
    noise = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, 32, mode="bilinear").contiguous()
