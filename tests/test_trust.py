"""Folders and files of weights from others: they run no code, import nothing, load nothing else, and take no more memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import small_kl, small_tiny
from pipelines import sd15
from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.metrics.clip import load_clip
from srlvae.metrics.judge import load_judge
from srlvae.models.encoders import read_encoder, write_encoder
from srlvae.models.load import load_pipeline
from srlvae.models.sources import parse
from srlvae.models.vae import load_vae
from srlvae.purify.load import load_model
from srlvae.trust.budget import Budget
from srlvae.trust.folders import PARTS, check_pipeline
from srlvae.trust.ids import PUBLISHERS, hub_id
from srlvae.zoo import bundled

WEIGHTS = "diffusion_pytorch_model.safetensors"
HUGE = 10**9


class Canary:
    """Unpickling it makes a folder called `was-run`."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """A module that would be imported by name, and after the test no sign that it, or other code, was run."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "hostile_module.py").write_text("import os; os.mkdir('was-run')")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "was-run").exists() and "hostile_module" not in sys.modules


def edit(path: Path, **changed) -> None:
    """Change keys of a JSON file; None takes one away."""
    content = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def code(path: Path) -> None:
    path.write_text("import os; os.mkdir('was-run')\nclass Model: pass\n")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A sound pipeline, which each test copies."""
    folder = tmp_path_factory.mktemp("saved")
    sd15(small_kl()).pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def pipeline(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "pipeline"))


def beside(part: str, module: str) -> Callable[[Path], None]:
    """Code in a part's folder that the index names, or that has the name of the library there."""

    def make(folder: Path) -> None:
        code(folder / part / f"{module}.py")
        index = json.loads((folder / "model_index.json").read_text())
        edit(folder / "model_index.json", **{part: [module, index[part][1]]})

    return make


def index(**changed) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "model_index.json", **changed)


def config(part: str, **changed) -> Callable[[Path], None]:
    return lambda folder: edit(folder / part / "config.json", **changed)


def pickled(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for file in (folder / name).glob("*.safetensors"):
            file.unlink()
            torch.save({"weight": Canary()}, file.with_name(file.name.replace("model.safetensors", "model.bin")))
        if name == "text_encoder":
            torch.save({"weight": Canary()}, folder / name / "pytorch_model.bin")

    return make


def adapter(folder: Path) -> None:
    about = {"base_model_name_or_path": "someone/else", "auto_mapping": {"parent_library": "hostile_module"}}
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps(about))


def scheduler(**changed) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "scheduler" / "scheduler_config.json", **changed)


def tokenizer(**changed) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer" / "tokenizer_config.json", **changed)


def no_numbers(folder: Path) -> None:
    weights = load_file(folder / "unet" / WEIGHTS)
    weights["conv_out.bias"][0] = float("nan")
    save_file(weights, folder / "unet" / WEIGHTS)


def own_class(folder: Path) -> None:
    code(folder / "pipe.py")
    edit(folder / "model_index.json", _class_name=["pipe", "Model"])


# By what is done to a sound folder: a part of the sentence that refuses it.
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "code that the index names": (beside("unet", "unet_code"), "parts are loaded from diffusers, transformers"),
    "code under the name of the library": (beside("unet", "diffusers"), "code beside weights"),
    "a pipeline of its own": (own_class, "names the class"),
    "a module of this machine": (index(unet=["hostile_module", "Model"]), "parts are loaded from"),
    "another module": (index(scheduler=["os.path", "join"]), "parts are loaded from"),
    "a class that loads others": (index(text_encoder=["transformers", "AutoModel"]), "names the class 'AutoModel'"),
    "a function of the library": (index(unet=["diffusers", "DiffusionPipeline"]), "names the class 'DiffusionPipeline'"),
    "a part outside": (index(**{"../unet": ["diffusers", "UNet2DConditionModel"]}), "is no folder in it"),
    "a part that is a list of lists": (index(unet=[["a"], "b"]), "parts are loaded from"),
    "a part that is a table": (index(unet={"a": 1}), "neither a setting nor a library"),
    "no class": (index(_class_name=None), "names the class None"),
    "a function for a pipeline": (index(_class_name="is_torch_available"), "names the class"),
    "remote code": (config("unet", auto_map={"AutoModel": "someone/else--model.Model"}), "has 'auto_map'"),
    "code of the text encoder": (config("text_encoder", auto_map={"AutoModel": "model.Model"}), "has 'auto_map'"),
    "a kernel of the hub": (config("text_encoder", _attn_implementation="someone/kernels"), "which is code on the hub"),
    "quantised weights": (config("unet", quantization_config={"quant_method": "bitsandbytes"}), "quantised"),
    "weights elsewhere": (config("text_encoder", transformers_weights="../../x.bin"), "has 'transformers_weights'"),
    "an adapter": (adapter, "would load another model"),
    "a pickled UNet": (pickled("unet"), "cannot load a pipeline"),
    "a pickled text encoder": (pickled("text_encoder"), "cannot load a pipeline"),
    "absurd widths": (config("unet", block_out_channels=[HUGE] * 4, norm_num_groups=1), "asks for more than its weights"),
    "absurd words": (config("text_encoder", vocab_size=HUGE), "asks for more than its weights"),
    "absurd layers": (config("text_encoder", num_hidden_layers=HUGE), "asks for more than its weights"),
    "absurd VAE": (config("vae", block_out_channels=[HUGE, HUGE]), "asks for more than its weights"),
    "a VAE of another kind": (config("vae", scaling_factor="loud"), "a finite number is needed"),
    "absurd steps": (scheduler(num_train_timesteps=HUGE), "num_train_timesteps 1000000000; at most"),
    "absurd pictures": (config("unet", sample_size=HUGE), "sample_size 1000000000; at most"),
    "absurd prompts": (tokenizer(model_max_length=HUGE), "prompts of 1000000000 words"),
    "weights that are no numbers": (no_numbers, "weights are not finite"),
    "brackets": (lambda folder: (folder / "model_index.json").write_text("[" * 100_000), "cannot read"),
    "a list": (lambda folder: (folder / "model_index.json").write_text("[1]"), "is not a JSON object"),
    "a pipe": (lambda folder: replaced_by_pipe(folder / "unet" / "config.json"), "does not exist, or is not a file"),
}


def replaced_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pipeline_is_refused_with_a_sentence_before_anything_runs(name, pipeline):
    spoil, said = HOSTILE[name]
    spoil(pipeline)
    began = time.monotonic()
    with pytest.raises(InputError, match=said):
        load_pipeline(pipeline)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", ["code that the index names", "a module of this machine", "brackets", "a pipeline of its own"])
def test_a_hostile_pipeline_for_a_purifier_or_beside_a_checkpoint_is_refused(name, pipeline):
    spoil, said = HOSTILE[name]
    spoil(pipeline)
    with pytest.raises(InputError, match=said):
        load_model("upscaler", str(pipeline))
    save_file({"first_stage_model.x": torch.zeros(1)}, pipeline / "model.safetensors")
    with pytest.raises(InputError, match=said):
        load_pipeline(pipeline / "model.safetensors")


def test_a_pickled_checkpoint_beside_a_sound_pipeline_is_refused(pipeline):
    torch.save({"state_dict": {"weight": Canary()}}, pipeline / "model.ckpt")
    with pytest.raises(InputError, match="cannot load a pipeline"):
        load_pipeline(pipeline / "model.ckpt")


def test_a_sound_pipeline_loads_and_so_do_the_classes_that_are_known(pipeline):
    assert load_pipeline(pipeline).fingerprint() == sd15(small_kl()).fingerprint()
    assert check_pipeline(bundled("tiny-sd") or Path()) == "StableDiffusionPipeline"
    for name in ("StableDiffusionSafetyChecker",):
        assert PARTS["stable_diffusion"].fullmatch(name)
    for name in ("AutoencoderKL", "AsymmetricAutoencoderKL", "UNet2DConditionModel", "EulerAncestralDiscreteScheduler"):
        assert PARTS["diffusers"].fullmatch(name)


# --- autoencoders


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"_class_name": "DiffusionPipeline"}, "names the class 'DiffusionPipeline'"),
        ({"_class_name": "StableDiffusionPipeline"}, "names the class"),
        ({"_class_name": "is_torch_available"}, "names the class"),
        ({"_class_name": ["model", "Model"]}, "names the class"),
        ({"_class_name": "UNet2DConditionModel"}, "names the class"),
        ({"auto_map": {"AutoModel": "model.Model"}}, "has 'auto_map'"),
        ({"block_out_channels": [HUGE, HUGE]}, "asks for more than its weights hold"),
        ({"layers_per_block": HUGE}, "asks for more than its weights hold"),
        ({"block_out_channels": ["a"]}, "cannot load a VAE"),
        ({"latents_mean": ["a"], "latents_std": [1]}, "are not numbers"),
        ({"latents_mean": [0.0] * 4, "latents_std": [0.0] * 4}, "are not numbers"),
        ({"scaling_factor": float("inf")}, "a finite number is needed"),
        ({"scaling_factor": [1]}, "a finite number is needed"),
    ],
)
def test_a_hostile_configuration_of_a_vae_is_refused(changed, said, tmp_path):
    small_kl().save(tmp_path / "vae")
    code(tmp_path / "vae" / "model.py")
    edit(tmp_path / "vae" / "config.json", **changed)
    with pytest.raises(InputError, match=said):
        load_vae(tmp_path / "vae")


@pytest.mark.parametrize(
    "written, said",
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", r"is \[1\]"),
        ('{"_class_name": "DiffusionPipeline"}', "names the class"),
        ('{"_class_name": "AutoencoderDC", "decoder_block_out_channels": [1000000000]}', "does not fit|asks for more"),
    ],
)
def test_a_hostile_configuration_in_a_file_is_refused(written, said, tmp_path):
    small_kl().save(tmp_path / "vae")
    save_file(load_file(tmp_path / "vae" / WEIGHTS), tmp_path / "one.safetensors", {"srlvae.config": written})
    with pytest.raises(InputError, match=said):
        load_vae(tmp_path / "one.safetensors")


def repeating() -> dict:
    """A table that holds itself."""
    table = {}
    table["state_dict"] = table
    return table


@pytest.mark.parametrize(
    "content",
    [
        repeating(),
        {1: torch.zeros(1), "encoder.conv_in.weight": 1},
        {"encoder.conv_in.weight": torch.zeros(1).expand(10**9, 3, 3, 3), "decoder.conv_out.weight": torch.zeros(3, 4, 3, 3)},
        {"encoder.conv_in.weight": torch.zeros(64, 3, 3, 3, device="meta")},
        {"encoder.conv_in.weight": torch.zeros(64, 3).to_sparse()},
        {"0.weight": torch.zeros(1), "1.conv.0.weight": torch.zeros(1), "x.y": torch.zeros(1)},
        {f"{half}.{mark}": torch.zeros(1) for half in ("encoder", "decoder") for mark in ("0.weight", "1.conv.0.weight", "a.b")}
        | {"decoder.1.weight": torch.zeros(1), "decoder.3.conv.0.weight": torch.zeros(1)},
        {"encoder.down.0.block.0.norm1.weight": torch.zeros(1), "encoder.conv_in.weight": torch.zeros(1)},
        {"encoder.conv1.weight": torch.zeros(1), "encoder.downsamples.0.residual.0.gamma": torch.zeros(1)},
    ],
    ids=range(9),
)
@pytest.mark.filterwarnings("ignore")
def test_a_hostile_checkpoint_of_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt|weights are missing|widths"):
        load_vae(tmp_path / "x.pt")


def test_an_index_of_shards_names_files_beside_it_alone(tmp_path):
    small_kl().model.save_pretrained(tmp_path / "vae", max_shard_size="20KB")
    (tmp_path / "elsewhere").mkdir()
    (file,) = (tmp_path / "vae").glob("*.index.json")
    weights = json.loads(file.read_text())["weight_map"]
    edit(file, weight_map=weights | {next(iter(weights)): "../elsewhere/x.safetensors"})
    with pytest.raises(InputError, match="which does not lie beside it"):
        load_vae(tmp_path / "vae")


def header(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


TENSOR = '"encoder.conv_in.weight":{"dtype":"F32","shape":[%s],"data_offsets":[%s]}'


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", 2**62),
        header(b"[" * 10_000),
        header(b"\xff\xfe"),
        header(b'{"__metadata__":{"srlvae":1}}'),
        header(("{" + TENSOR % ("1000000000,1000000000", "0,4") + "}").encode()) + b"\0" * 4,
        header(("{" + TENSOR % ("1", "0,4") + "," + TENSOR.replace("encoder", "decoder") % ("1", "0,4") + "}").encode())
        + b"\0" * 4,
        header(("{" + TENSOR % ("1", "-4,0") + "}").encode()),
        header(("{" + TENSOR % ("1", "0,4") + "}").encode()),
        header(("{" + TENSOR.replace("F32", "F4") % ("2", "0,1") + "}").encode()) + b"\0",
        b"",
    ],
)
@pytest.mark.parametrize("load", [load_vae, read_encoder], ids=["vae", "encoder"])
def test_a_hostile_header_of_safetensors_is_refused(content, load, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors|weights are missing"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "facts", ["[1]", "{", '{"base": 1}', '{"base": {"class": 1, "channels": [], "fingerprint": 2}}', "[" * 100_000, "NaN"]
)
def test_a_hostile_record_of_an_encoder_is_refused(facts, tmp_path):
    write_encoder(tmp_path / "e.safetensors", small_tiny(), small_tiny(), {})
    save_file(load_file(tmp_path / "e.safetensors"), tmp_path / "e.safetensors", {"srlvae": facts})
    with pytest.raises(InputError, match="is not an encoder file"):
        read_encoder(tmp_path / "e.safetensors")


# --- judges, CLIP


@pytest.mark.parametrize(
    "about", ["{", "[]", "{}", '{"concepts": 1, "features": "efficientnet-lite0"}', '{"concepts": ["a"], "features": "pickle"}']
)
def test_a_hostile_judge_is_refused(about, tmp_path):
    (tmp_path / "judge.json").write_text(about)
    (tmp_path / "judge.safetensors").write_bytes(pickle.dumps(Canary()))
    with pytest.raises(InputError, match=r"judge\.json"):
        load_judge(tmp_path)


def test_a_judge_has_the_size_that_its_folder_says(tmp_path):
    save_file({"weight": torch.zeros(2, 1280), "bias": torch.zeros(2)}, tmp_path / "judge.safetensors")
    about = '{"concepts": ["a", "b"], "features": "efficientnet-lite0", "size": %s}'
    (tmp_path / "judge.json").write_text(about % 64)
    assert load_judge(tmp_path).size == 64
    for size in ("0", '"64"', "1e9"):
        (tmp_path / "judge.json").write_text(about % size)
        with pytest.raises(InputError, match="size must be a whole number"):
            load_judge(tmp_path)


def test_a_judge_with_other_weights_is_refused(tmp_path):
    (tmp_path / "judge.json").write_text('{"concepts": ["a", "b"], "features": "efficientnet-lite0"}')
    wide = 1280
    for weight in (torch.zeros(3, wide), torch.zeros(2, 4), torch.zeros(2), torch.full((2, wide), float("nan"))):
        save_file({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "judge.safetensors")
        with pytest.raises(InputError, match="not finite, or not of its 2 concepts and 1280 features"):
            load_judge(tmp_path)
    (tmp_path / "judge.safetensors").write_bytes(pickle.dumps(Canary()))
    with pytest.raises(InputError, match="cannot read the judge"):
        load_judge(tmp_path)


@pytest.mark.parametrize(
    "file, changed, said",
    [
        ("config.json", {"auto_map": {"AutoModel": "model.Model"}}, "has 'auto_map'"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["model.Model", None]}}, "has 'auto_map'"),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, "has 'vocab_file'"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "three colours"),
        ("preprocessor_config.json", {"image_mean": "grey"}, "cannot load a CLIP"),
    ],
)
def test_a_hostile_clip_is_refused(file, changed, said, tmp_path):
    folder = Path(shutil.copytree(bundled("tiny-clip") or Path(), tmp_path / "clip"))
    code(folder / "model.py")
    path = folder / file
    path.write_text(path.read_text() if path.exists() else "{}")
    edit(path, **changed)
    with pytest.raises(InputError, match=said):
        load_clip(str(folder))


# --- names


@pytest.mark.parametrize("text", ["runs/taesd-sd", "runs/taesd-sd/vae", "out/vae:fp16", "photos/train@main"])
def test_a_path_that_is_not_here_is_not_fetched_from_whoever_has_that_name(text, monkeypatch):
    monkeypatch.setattr("srlvae.models.vae.online", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr("srlvae.models.load.online", lambda: pytest.fail("the hub was asked"))
    for load in (load_vae, load_pipeline):
        with pytest.raises(InputError, match=rf"{text} is no file or folder here.*write hf://{text} if you mean"):
            load(text)


def test_a_well_known_name_is_an_id_unless_a_folder_of_the_owner_is_here(tmp_path):
    assert parse("stabilityai/sd-vae-ft-mse", "VAE").repository == "stabilityai/sd-vae-ft-mse"
    assert parse("hf://runs/taesd-sd:fp16", "VAE").repository == "runs/taesd-sd"
    (tmp_path / "stabilityai").mkdir()
    with pytest.raises(InputError, match="stabilityai is, and has no such VAE in it.*hf://stabilityai/sd-vae-ft-mse"):
        parse("stabilityai/sd-vae-ft-mse", "VAE")
    assert parse("hf://stabilityai/sd-vae-ft-mse", "VAE").path is None
    assert {"stabilityai", "madebyollin", "openai", "DeepFloyd"} <= set(PUBLISHERS) and "runs" not in PUBLISHERS


@pytest.mark.parametrize("load", [load_clip, lambda name: load_model("upscaler", name)], ids=["clip", "upscaler"])
def test_other_models_are_not_fetched_either(load, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match="no file or folder here.*hf://runs/model"):
        load("runs/model")


# --- the budget itself, and records


def test_a_budget_lets_in_what_fits_and_stops_before_memory_is_taken():
    with Budget(4 * 2**20, "here"):
        assert torch.nn.Linear(1024, 1024).weight.shape == (1024, 1024)
    with pytest.raises(InputError, match="here: its configuration asks for more"), Budget(1000, "here"):
        torch.nn.Linear(10**6, 10**6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(10**9),
        lambda: torch.arange(5, 10**9),
        lambda: torch.arange(0.0, 1.0, 1e-9),
        lambda: torch.linspace(0, 1, 10**9),
        lambda: torch.eye(10**5),
        lambda: torch.eye(10**5, 10**5),
    ],
)
def test_tables_of_numbers_count_as_large_as_they_are(make):
    with pytest.raises(InputError, match="asks for more"), Budget(0, "here"):
        make()
    with Budget(0, "here"):
        assert torch.arange(3).tolist() == [0, 1, 2] and torch.linspace(0, 1, 2).tolist() == [0, 1]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"nan", b"\xff", b'{"a":' * 100_000, b"1" * 5000])
def test_a_record_that_is_none_is_named(content, tmp_path):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(InputError, match=r"record\.json"):
        read_record(tmp_path / "record.json")


def test_an_id_that_was_downloaded_before_needs_no_prefix(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="hf://somebody/their-vae"):
        hub_id("somebody/their-vae", "VAE")
    (tmp_path / "models--somebody--their-vae").mkdir()
    for text in ("somebody/their-vae", "somebody/their-vae/vae", "somebody/their-vae@main:fp16"):
        assert hub_id(text, "VAE") == text
    with pytest.raises(InputError, match="hf://somebody/other"):
        hub_id("somebody/other", "VAE")
