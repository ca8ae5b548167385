"""Gradient checkpointing of any network: activations are computed again in the backward pass instead of being kept.

diffusers' own switch does not serve here: in its AutoencoderTiny, the checkpointed branch leaves out the scaling of the input.
"""

from __future__ import annotations

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(model: nn.Module) -> None:
    """Make every layer in the outermost lists of `model` recompute its activations in the backward pass.

    The function and its gradient stay the same. Layers without parameters are left alone, as they keep too little for a second
    pass to be worth it.
    """
    for child in model.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            for layer in child:
                if any(True for _ in layer.parameters()):
                    layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        else:
            checkpoint_layers(child)
