"""Gradient checkpointing of any network: activations are computed again in the backward pass instead of being kept.

diffusers' own switch does not serve here: in its AutoencoderTiny, the checkpointed branch leaves out the scaling of the input.
"""

from __future__ import annotations

import functools
import inspect

from torch import nn
from torch.utils.checkpoint import checkpoint

from srlvae.errors import InputError

# What layers that count frames hand on and change, so that a second pass would be another one.
STATE = "feat_cache"


def checkpoint_layers(model: nn.Module) -> None:
    """Make every layer in the outermost lists of `model` recompute its activations in the backward pass.

    The function and its gradient stay the same. Layers without parameters are left alone, as they keep too little for a second
    pass to be worth it. Raises InputError for an autoencoder of frames, whose layers remember their last input.
    """
    for child in model.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            # A list may have places without a layer, as of an attention that is left out.
            for layer in (layer for layer in child if layer is not None):
                if STATE in inspect.signature(layer.forward).parameters:
                    raise InputError(f"{type(layer).__name__} cannot be computed twice; leave gradient checkpointing out")
                if any(True for _ in layer.parameters()):
                    layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        else:
            checkpoint_layers(child)
