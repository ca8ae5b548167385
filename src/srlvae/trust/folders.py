"""What a folder of weights may ask for: known classes, plain weights beside their configuration, no code and no other model.

Libraries that load such folders import what these name, and some run Python files that lie in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.words import shortened

INDEX = "model_index.json"
AUTOENCODER = re.compile(r"(Asymmetric)?Autoencoder[A-Z]\w*|ConsistencyDecoderVAE|VQModel|CosmosAutoencoder\w*")
# The classes of a pipeline's parts, by the library that its index names.
PARTS = {
    "diffusers": re.compile(rf"{AUTOENCODER.pattern}|UNet2D(Condition)?Model|[A-Z]\w*Scheduler|VaeImageProcessor"),
    "transformers": re.compile(
        r"CLIP(TextModel|VisionModel)(WithProjection)?|CLIPModel|CLIPTokenizer(Fast)?|CLIP(ImageProcessor|FeatureExtractor)\w*"
        r"|T5EncoderModel|T5Tokenizer(Fast)?|(Siglip|Bit|ViT)ImageProcessor\w*|SiglipVisionModel|BertModel|BertTokenizer(Fast)?"
    ),
    "stable_diffusion": re.compile("StableDiffusionSafetyChecker"),
    "deepfloyd_if": re.compile("IFSafetyChecker|IFWatermarker"),
}
# Keys by which a configuration has code run, or another model or file loaded in its place.
FOREIGN = ("auto_map", "custom_pipelines", "trust_remote_code", "transformers_weights", "vocab_file", "merges_file")
ADAPTER = "adapter_config.json"
# The largest values of settings that pictures, tables or prompts are made as large as.
LARGEST = {"num_train_timesteps": 10**5, "sample_size": 2**14}


def check_class(name: Any, known: re.Pattern[str], where: str | Path) -> str:
    """`name`, the class that a configuration names. Raises InputError where it is not `known`."""
    if not isinstance(name, str) or not known.fullmatch(name):
        raise InputError(
            f"{where} names the class {shortened(name)}, which is not loaded here: a file that names it may run any code"
        )
    return name


def check_folder(folder: Path) -> None:
    """Raise InputError for a model's folder whose configuration asks for more than the weights that lie in it."""
    if (folder / ADAPTER).exists():
        raise InputError(f"{folder / ADAPTER} would load another model in this one's place; merge the adapter, or take it away")
    for path in sorted(folder.glob("*config.json")):
        _check_config(path)
    for path in sorted(folder.glob("*.index*.json")):
        check_shards(path)


def _check_config(path: Path) -> None:
    config = read_record(path)
    for key in FOREIGN:
        if config.get(key):
            raise InputError(
                f"{path} has {key!r}, by which code or files from elsewhere would be loaded; take a model without it"
            )
    if config.get("quantization_config"):
        raise InputError(f"{path}: its weights are quantised; give them in float32, float16 or bfloat16")
    for key, most in LARGEST.items():
        if isinstance(config.get(key), int) and config[key] > most:
            raise InputError(f"{path} has {key} {shortened(config[key])}; at most {most} is taken")
    for key, value in config.items():
        if key.endswith(("attn_implementation", "experts_implementation")) and re.search(r"[/:@]", str(value)):
            raise InputError(f"{path}: {key} is {shortened(value)}, which is code on the hub; take a model without it")


def check_shards(index: Path) -> list[str]:
    """The files that an index of shards names. Raises InputError where one is none beside it."""
    weights = read_record(index).get("weight_map")
    names = sorted(set(map(str, weights.values()))) if isinstance(weights, Mapping) else None
    if names is None:
        raise InputError(f"{index} has no weight_map, so it is no index of shards")
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*\.(safetensors|bin)", name):
            raise InputError(f"{index} names the file {shortened(name)}, which does not lie beside it")
    return names


def check_pipeline(folder: Path) -> str:
    """The class of a pipeline's folder. Raises InputError where its index or one of its parts asks for what is not known."""
    index = check_index(folder / INDEX)
    for part, given in index.items():
        if isinstance(given, list):
            for code in sorted((folder / part).glob("*.py")):
                raise InputError(
                    f"{code} is code beside weights, which loading them could run; take it away, or the whole folder"
                )
            check_folder(folder / part)
    return index["_class_name"]


def check_index(path: Path) -> dict[str, Any]:
    """The index of a pipeline. Raises InputError where it names a class or library that is not known."""
    index = read_record(path)
    check_class(index.get("_class_name"), re.compile(r"[A-Z]\w*Pipeline"), path)
    for part, given in index.items():
        if isinstance(given, dict):
            raise InputError(f"{path}: {part} is {shortened(given)}, and neither a setting nor a library and a class")
        if isinstance(given, list):
            _check_part(given, part, path)
    return index


def _check_part(given: list[Any], part: str, where: Path) -> None:
    if not re.fullmatch(r"[A-Za-z]\w*", part):
        raise InputError(f"{where} names a part {shortened(part)}, which is no folder in it")
    if given == [None, None]:
        return
    if len(given) != 2 or not isinstance(given[0], str) or given[0] not in PARTS:
        raise InputError(
            f"{where} takes its {part} from {shortened(given)}; parts are loaded from {', '.join(PARTS)} alone, as others "
            "could run any code"
        )
    check_class(given[1], PARTS[given[0]], f"{where}: {part}")
