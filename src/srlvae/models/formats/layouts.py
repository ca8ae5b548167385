"""Names of tensors in three layouts: diffusers', that of latent diffusion's original code (LDM), and TAESD's."""

from __future__ import annotations

import re

from torch import Tensor

from srlvae.errors import InputError

State = dict[str, Tensor]

# diffusers' names of an attention block before 0.18.
_OLD = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# Of TAESD's decoder the first layer is a clamp without weights, which diffusers leaves out.
CLAMP = 1


def modern(state: State) -> State:
    """The tensors under the names that diffusers gives them today."""
    found: State = {}
    for name, value in state.items():
        for old, new in _OLD.items():
            name = name.replace(old, new)
        found[name] = value
    return found


def is_ldm(state: State) -> bool:
    """Whether the tensors have LDM's names."""
    return "encoder.down.0.block.0.norm1.weight" in state


def from_ldm(state: State) -> State:
    """LDM's tensors under diffusers' names, by diffusers' own conversion.

    Raises InputError for an autoencoder that has more layers than LDM's, such as that of FLUX.2: they would be left out.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = _count(state, r"encoder\.down\.(\d+)\.")
    kept = {name: value for name, value in state.items() if re.match(r"(encoder|decoder|quant_conv|post_quant_conv)\.", name)}
    found = convert_ldm_vae_checkpoint(kept, {"down_block_types": [""] * levels, "up_block_types": [""] * levels})
    if len(found) < len(kept):
        raise InputError(
            f"this autoencoder has layers that one of Stable Diffusion or FLUX.1 has not ({len(kept) - len(found)} tensors of "
            f"{len(kept)}); give its folder in diffusers' layout instead of the single file"
        )
    return found


def is_wan(state: State) -> bool:
    """Whether the tensors have the names of Wan's own code, which Qwen-Image's autoencoder has in ComfyUI, too."""
    return "encoder.downsamples.0.residual.0.gamma" in state


def from_wan(state: State) -> State:
    """The tensors of Wan's own code under diffusers' names, by diffusers' own conversion."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    return convert_wan_vae_to_diffusers(state)


def to_ldm(state: State) -> State:
    """An AutoencoderKL's tensors under LDM's names. Its attention is made of convolutions: weights become `c c 1 1`."""
    levels = _count(state, r"encoder\.down_blocks\.(\d+)\.")
    found = {_ldm_name(name, levels): value for name, value in state.items()}
    return {
        name: value[:, :, None, None] if value.dim() == 2 and ".attn_1." in name else value for name, value in found.items()
    }


def _ldm_name(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    # LDM counts the decoder's levels from the finest.
    name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    return re.sub(
        r"mid_block\.attentions\.0\.(group_norm|to_q|to_k|to_v|to_out\.0)", lambda m: f"mid.attn_1.{_ATTENTION[m[1]]}", name
    )


def from_taesd(encoder: State, decoder: State) -> State:
    """TAESD's two halves under diffusers' names."""
    return {f"encoder.layers.{name}": value for name, value in encoder.items()} | {
        f"decoder.layers.{_moved(name, -CLAMP)}": value for name, value in decoder.items()
    }


def to_taesd(state: State) -> tuple[State, State]:
    """Encoder and decoder of an AutoencoderTiny under TAESD's names."""
    parts = "encoder.layers.", "decoder.layers."
    encoder, decoder = ({name[len(part) :]: value for name, value in state.items() if name.startswith(part)} for part in parts)
    return encoder, {_moved(name, CLAMP): value for name, value in decoder.items()}


def _moved(name: str, by: int) -> str:
    """`3.conv.0.weight` with its first number another."""
    number, rest = name.split(".", 1)
    return f"{int(number) + by}.{rest}"


def _count(state: State, pattern: str) -> int:
    """How many numbers `pattern` finds in the names."""
    return len({found[1] for name in state if (found := re.match(pattern, name))})
