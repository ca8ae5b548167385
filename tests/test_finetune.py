"""Fine-tuning: what it changes and what it leaves, captions from where people keep them, runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from conftest import small_kl
from heard import Heard
from pipelines import little, sd15, sdxl
from srlvae.errors import InputError
from srlvae.finetune import CHECKPOINT, FinetuneConfig, finetune, read_captions, tune
from srlvae.finetune.loop import Tuner
from srlvae.images import write_image
from srlvae.models.load import load_pipeline
from srlvae.provenance import fingerprint
from srlvae.rng import generators

CONFIG = FinetuneConfig(steps=4, batch_size=2, learning_rate=1e-3, warmup=1, checkpoint_every=2, precision="no")


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        picture = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(i))
        write_image(tmp_path / "images" / f"{i}.png", picture)
    return tmp_path / "images"


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_unet_is_tuned_in_a_copy_and_all_else_stays(latents):
    pipeline = sd15(small_kl())
    before = pipeline.fingerprint(), fingerprint(pipeline.pipe.unet)
    tuned = tune(pipeline, latents, ["a cat", "a dog", "a cat"], CONFIG)
    assert (pipeline.fingerprint(), fingerprint(pipeline.pipe.unet)) == before
    assert fingerprint(tuned.pipe.unet) != before[1]
    assert tuned.vae.fingerprint() == pipeline.vae.fingerprint()
    assert fingerprint(tuned.pipe.text_encoder) == fingerprint(pipeline.pipe.text_encoder)
    assert not any(p.requires_grad for p in tuned.pipe.unet.parameters())


def test_the_loss_on_what_it_is_tuned_on_falls(latents):
    heard = Heard()
    config = dataclasses.replace(CONFIG, steps=40, learning_rate=5e-3)
    tune(little(small_kl()), latents[:1], ["a cat"], config, listener=heard)
    losses = [float(note.removeprefix("loss ")) for note in heard.notes]
    assert len(losses) == 40 and sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_run_that_is_cut_off_ends_as_one_that_is_not(latents, tmp_path):
    captions, whole = ["a cat", "a dog", "a cat"], tune(little(small_kl()), latents, ["a cat", "a dog", "a cat"], CONFIG)

    checkpoint, heard = tmp_path / CHECKPOINT, Heard()
    with pytest.raises(KeyboardInterrupt):
        tune(little(small_kl()), latents, captions, CONFIG, checkpoint=checkpoint, listener=Heard(stop_at=3))
    again = tune(little(small_kl()), latents, captions, CONFIG, checkpoint=checkpoint, listener=heard)
    assert (
        heard.numbers == [4]
        and heard.texts == ["resuming after step 3"]
        and fingerprint(again.pipe.unet) == fingerprint(whole.pipe.unet)
    )


def test_a_run_goes_on_with_the_scale_of_float16(tmp_path):
    before, after = Tuner(little(small_kl()), CONFIG), Tuner(little(small_kl()), CONFIG)
    before.accelerator.scaler, after.accelerator.scaler = (torch.amp.GradScaler("cpu", init_scale=x) for x in (256.0, 65536.0))
    before.save(tmp_path / CHECKPOINT, 2)
    assert after.restore(tmp_path / CHECKPOINT) == 2 and after.accelerator.scaler.get_scale() == 256


def test_an_sdxl_is_tuned_too(latents):
    pipeline = sdxl(small_kl())
    tuned = tune(pipeline, latents, ["a cat"] * 3, dataclasses.replace(CONFIG, steps=1))
    assert fingerprint(tuned.pipe.unet) != fingerprint(pipeline.pipe.unet)


def test_lora_trains_its_own_weights_alone_and_loads_by_diffusers(folder, tmp_path, latents):
    pytest.importorskip("peft", reason="needs the extra finetune")
    pipeline = sd15(small_kl())
    tuned = finetune(pipeline, folder, tmp_path / "lora", dataclasses.replace(CONFIG, lora_rank=2), prompt="a cat")
    names = [name for name, p in tuned.pipe.unet.named_parameters() if "lora" not in name]
    before = dict(pipeline.pipe.unet.named_parameters())
    after = {name.replace(".base_layer", ""): p for name, p in tuned.pipe.unet.named_parameters()}
    assert len(names) == len(before) and all(torch.equal(after[name], p) for name, p in before.items())
    files = {path.name for path in (tmp_path / "lora").iterdir()}
    assert files == {"pytorch_lora_weights.safetensors", "kohya_lora.safetensors", "finetune.json"}
    with pytest.raises(InputError, match="holds only LoRA weights"):
        load_pipeline(tmp_path / "lora")
    pipe = pipeline.with_vae(pipeline.vae).pipe
    pipe.load_lora_weights(tmp_path / "lora")
    y = pipe("a cat", num_inference_steps=2, generator=generators(0, [0]), output_type="pt", height=64, width=64).images
    torch.testing.assert_close(y, tuned.generate(["a cat"], generators(0, [0]), steps=2, guidance=7.5))


def test_lora_is_a_function_of_the_seed_and_leaves_the_global_generator_alone(latents):
    pytest.importorskip("peft", reason="needs the extra finetune")
    config = dataclasses.replace(CONFIG, lora_rank=2)
    pipeline, before = little(small_kl()), torch.get_rng_state()
    first = tune(pipeline, latents, ["a cat"] * 3, config)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        again = tune(little(small_kl()), latents, ["a cat"] * 3, config)
    other = tune(little(small_kl()), latents, ["a cat"] * 3, dataclasses.replace(config, seed=1))
    prints = [fingerprint(tuned.pipe.unet) for tuned in (first, again, other)]
    assert prints[0] == prints[1] != prints[2]


# Layers of the original code's UNet by those of diffusers', in SDXL of three levels with attention in two of them.
BLOCKS = {
    **{f"down_blocks_{i}_attentions_{j}": f"input_blocks_{3 * i + j + 1}_1" for i in (1, 2) for j in range(2)},
    **{f"up_blocks_{i}_attentions_{j}": f"output_blocks_{3 * i + j}_1" for i in range(2) for j in range(3)},
    "mid_block_attentions_0": "middle_block_1",
}


@pytest.mark.parametrize(("build", "blocks"), [(sd15, {}), (sdxl, BLOCKS)], ids=["sd15", "sdxl"])
def test_lora_is_written_under_the_names_that_kohya_gives_each_layer(build, blocks, folder, tmp_path):
    pytest.importorskip("peft", reason="needs the extra finetune")
    pipeline = build(small_kl())
    layers = [name for name, _ in pipeline.pipe.unet.named_modules() if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    tuned = finetune(pipeline, folder, tmp_path / "lora", dataclasses.replace(CONFIG, lora_rank=2), prompt="a cat")
    names = {"lora_unet_" + name.replace(".", "_") for name in layers}
    for new, old in blocks.items():
        names = {name.replace(new, old) for name in names}
    found = load_file(tmp_path / "lora" / "kohya_lora.safetensors")
    assert found.keys() == {f"{name}.{end}" for name in names for end in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert all(found[f"{name}.alpha"] == 2 and len(found[f"{name}.lora_down.weight"]) == 2 for name in names)
    # diffusers reads kohya's names, too, and finds every weight again.
    pipe = pipeline.with_vae(pipeline.vae).pipe
    pipe.load_lora_weights(tmp_path / "lora", weight_name="kohya_lora.safetensors")
    trained, read = (
        {name.replace(".default_0", ".default"): p for name, p in unet.named_parameters() if "lora" in name}
        for unet in (tuned.pipe.unet, pipe.unet)
    )
    assert trained.keys() == read.keys() and all(torch.equal(p, trained[name]) for name, p in read.items())


def test_what_is_written_loads_again_and_is_not_written_over(folder, tmp_path):
    pipeline = sd15(small_kl())
    tuned = finetune(pipeline, folder, tmp_path / "out", CONFIG, prompt="a cat")
    assert load_pipeline(tmp_path / "out").fingerprint() == tuned.fingerprint() != pipeline.fingerprint()
    assert not (tmp_path / "out" / CHECKPOINT).exists()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {(tmp_path / "out" / "model_index.json").stat().st_mode}
    with pytest.raises(InputError, match="holds a finished run"):
        finetune(pipeline, folder, tmp_path / "out", CONFIG, prompt="a dog")
    (tmp_path / "out" / "finetune.json").unlink()
    with pytest.raises(InputError, match="something else"):
        finetune(pipeline, folder, tmp_path / "out", CONFIG, prompt="a dog")


def test_a_run_goes_on_with_the_same_pictures_alone_wherever_they_lie(folder, tmp_path):
    words = (tmp_path / "out", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        finetune(little(small_kl()), folder, *words, prompt="a cat", listener=Heard(stop_at=1))
    moved, heard = folder.rename(tmp_path / "moved"), Heard()
    write_image(moved / "0.png", torch.zeros(3, 20, 24))
    with pytest.raises(InputError, match=r"out was begun with other settings: images\.0\.png was"):
        finetune(little(small_kl()), moved, *words, prompt="a cat")
    write_image(moved / "0.png", torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0)))
    finetune(little(small_kl()), moved, *words, prompt="a cat", listener=heard)
    assert heard.numbers == [2, 3, 4]


def test_a_run_that_came_to_nothing_claims_nothing(folder, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"none of the 1 images can be used; the first is .*a\.png: not a readable image"):
        finetune(little(small_kl()), tmp_path / "broken", tmp_path / "out", CONFIG, prompt="a cat")
    assert "a.png" in (tmp_path / "out" / "left-out.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="learning_rate must be above 0"):
        dataclasses.replace(CONFIG, learning_rate=0.0).check()
    with pytest.raises(InputError, match="precision is one of"):
        finetune(little(small_kl()), folder, tmp_path / "out", dataclasses.replace(CONFIG, precision="half"), prompt="a cat")
    finetune(little(small_kl()), folder, tmp_path / "out", CONFIG, prompt="a cat")
    assert (tmp_path / "out" / "model_index.json").exists()


def test_a_loss_that_is_no_number_ends_the_run(latents):
    with pytest.raises(InputError, match=r"not a number at step .*--learning-rate"):
        tune(little(small_kl()), latents, ["a cat"] * 3, dataclasses.replace(CONFIG, steps=20, learning_rate=1e20))


def broken_gradients(monkeypatch, bad) -> None:
    """Gradients that are no numbers in the steps, counted from 1, of which `bad` says so."""
    step = Tuner.step

    def spoilt(self, number, *given):
        handles = [self.weights[0].register_hook(lambda gradient: gradient * torch.nan)] if bad(number + 1) else []
        try:
            return step(self, number, *given)
        finally:
            for handle in handles:
                handle.remove()

    monkeypatch.setattr(Tuner, "step", spoilt)


def test_a_step_without_a_finite_gradient_is_left_out(latents, monkeypatch):
    broken_gradients(monkeypatch, lambda step: step == 4)
    tuned = tune(little(small_kl()), latents, ["a cat"] * 3, CONFIG)
    monkeypatch.undo()
    tuner = Tuner(little(small_kl()), CONFIG)
    for step in range(3):
        tuner.step(step, latents, ["a cat"] * 3)
    assert fingerprint(tuned.pipe.unet) == fingerprint(tuner.unet)


@pytest.mark.parametrize(("steps", "message"), [(4, "no step had a finite gradient"), (40, "11 of 11 steps had no finite")])
def test_a_run_without_finite_gradients_is_an_error(steps, message, latents, monkeypatch):
    broken_gradients(monkeypatch, lambda step: True)
    with pytest.raises(InputError, match=f"{message}.*--precision no or bf16.*new folder"):
        tune(little(small_kl()), latents, ["a cat"] * 3, dataclasses.replace(CONFIG, steps=steps))


def test_steps_that_were_left_out_count_after_an_interruption_too(latents, tmp_path, monkeypatch):
    broken_gradients(monkeypatch, lambda step: True)
    with pytest.raises(KeyboardInterrupt):
        tune(little(small_kl()), latents, ["a cat"] * 3, CONFIG, checkpoint=tmp_path / CHECKPOINT, listener=Heard(stop_at=3))
    with pytest.raises(InputError, match="no step had a finite gradient"):
        tune(little(small_kl()), latents, ["a cat"] * 3, CONFIG, checkpoint=tmp_path / CHECKPOINT)


def test_any_seed_is_taken(latents):
    pipeline = sd15(small_kl())
    tuned = tune(pipeline, latents, ["a cat"] * 3, dataclasses.replace(CONFIG, steps=1, seed=10**13))
    assert tuned.fingerprint() != pipeline.fingerprint()


# --- captions


def test_several_processes_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("srlvae.finetune.folder.processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(InputError, match="without torchrun"):
        finetune(little(small_kl()), folder, tmp_path / "out", FinetuneConfig(steps=1), prompt="a cat")


def test_captions_are_read_from_where_people_keep_them(folder):
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"picture {i}"}) for i in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert read_captions(folder)[1] == ["picture 0", "picture 1", "picture 2"]
    (folder / "metadata.jsonl").unlink()
    (folder / "own.csv").write_text("file_name,text\n" + "".join(f'{i}.png,"one, {i}"\n' for i in range(3)))
    assert read_captions(folder, folder / "own.csv")[1] == ["one, 0", "one, 1", "one, 2"]
    for i in range(3):
        (folder / f"{i}.txt").write_text(f" beside {i}\n")
    assert read_captions(folder)[1] == ["beside 0", "beside 1", "beside 2"]
    assert read_captions(folder, prompt="all")[1] == ["all"] * 3
    with pytest.raises(InputError, match="not both"):
        read_captions(folder, folder / "own.csv", "all")


def test_captions_are_read_as_other_programs_write_them(folder):
    (folder / "own.CSV").write_bytes('\ufefffile_name,text\r\n0.png,"two\nlines"\r\n./1.png,é\r\n2.png,\r\n'.encode())
    assert read_captions(folder, folder / "own.CSV")[1] == ["two\nlines", "é", ""]
    lines = [json.dumps({"file_name": f"{i}.png", "text": "a\u2028b"}, ensure_ascii=False) for i in range(3)]
    (folder / "own.jsonl").write_text("\r\n".join(lines) + "\n\n", encoding="utf-8")
    assert read_captions(folder, folder / "own.jsonl")[1] == ["a\u2028b"] * 3


@pytest.mark.parametrize("content", [b'{"file_name": "0.png", "text": 7}', "é".encode("latin-1"), b"[1]", b'{"file_name": 3}'])
def test_a_table_that_is_none_is_named(content, folder):
    (folder / "own.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"own\.jsonl"):
        read_captions(folder, folder / "own.jsonl")


def test_a_caption_in_another_encoding_is_named(folder):
    (folder / "0.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match=r"0\.txt, text in UTF-8"):
        read_captions(folder)


def test_an_image_without_a_caption_is_named(folder):
    (folder / "0.txt").write_text("one")
    with pytest.raises(InputError, match=r"1\.png has no caption.*--prompt"):
        read_captions(folder)
    (folder / "broken.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"cannot read captions from .*broken\.jsonl"):
        read_captions(folder, folder / "broken.jsonl")


def test_empty_captions_are_told(folder, tmp_path):
    for i in range(3):
        (folder / f"{i}.txt").write_text("a cat" if i else "")
    heard = Heard()
    finetune(little(small_kl()), folder, tmp_path / "out", CONFIG, listener=heard)
    assert "1 of 3 captions are empty, so these images are learnt without one" in heard.texts
