"""The model card, and how it gets onto the hub with what it describes."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects

from conftest import small_kl, small_tiny
from srlvae.errors import InputError
from srlvae.harden.card import Base, base_of, write_card
from srlvae.harden.push import push
from srlvae.models.autoencoder import VAE
from srlvae.models.vae import load_vae

RECORD = {
    "config": {"steps": 7, "objective": {"closeness": 0.11}},
    "scores": {"photographs": 32, "precision": "bfloat16"},
    "steps_planned": [7],
}
ROWS = [("clean latents", "0.000", "0.110"), ("attacked", "1.353", "0.794")]


def named(name: str) -> VAE:
    vae = small_kl()
    vae.model.register_to_config(_name_or_path=name)
    return vae


def test_a_card_has_what_the_hub_reads_and_what_people_want_to_know():
    card = ModelCard(write_card(RECORD, ROWS, Base("madebyollin/taesd", "mit")))
    data = card.data.to_dict()
    assert data["base_model"] == "madebyollin/taesd" and data["license"] == "mit"
    assert data["pipeline_tag"] == "image-to-image" and data["library_name"] == "diffusers" and "srlvae" in data["tags"]
    assert (
        "| attacked | 1.353 | 0.794 |" in card.text
        and "(before_after.png)" in card.text
        and "by 0.11 of their norm" in card.text
        and "computed in bfloat16" in card.text
        and "were planned" not in card.text
    )
    assert "huggingface.co/madebyollin/taesd" in card.text


def test_what_is_not_known_is_left_out():
    card = ModelCard(write_card(RECORD | {"config": {"steps": 7, "objective": {"closeness": 0}}}, ROWS, Base(None, None)))
    assert {"base_model", "license"}.isdisjoint(card.data.to_dict())
    assert "not known here" in card.text and "closeness" not in card.text


def test_the_base_is_what_it_was_loaded_from(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("srlvae.harden.card.online", lambda: False)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.chdir(tmp_path)
    assert base_of(small_tiny()) == Base(None, None)
    assert base_of(named("someone/small")) == Base("someone/small", None)
    snapshot = tmp_path / "hub" / "models--someone--small" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    (snapshot / "README.md").write_text("---\nlicense: openrail\n---\nA model.\n")
    assert base_of(named("someone/small")) == Base("someone/small", "openrail")


def test_a_folder_of_ones_own_is_not_named_and_its_licence_is(tmp_path):
    small_kl().save(tmp_path)
    assert base_of(load_vae(tmp_path)) == Base(None, None)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert base_of(load_vae(tmp_path)) == Base(None, "cc-by-4.0")
    assert base_of(load_vae("tiny")) == Base(None, "mit")


class Hub:
    """Keeps what is asked of it."""

    calls: list[tuple[str, dict]] = []

    def create_repo(self, repo_id: str, **options: object) -> str:
        self.calls.append(("create", {"repo_id": repo_id, **options}))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, **options: object) -> None:
        self.calls.append(("upload", options))


def test_a_folder_is_pushed_without_what_the_run_left(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    small_kl().save(tmp_path)
    with pytest.raises(InputError, match="has no README.md"):
        push(tmp_path, "me/hardened")
    (tmp_path / "README.md").write_text(write_card(RECORD, ROWS, Base(None, "mit")))
    assert push(tmp_path, "me/hardened", private=True) == "https://huggingface.co/me/hardened"
    (made, how), (uploaded, what) = Hub.calls
    assert (made, how["repo_id"], how["private"]) == ("create", "me/hardened", True)
    assert (uploaded, what["repo_id"], what["folder_path"]) == ("upload", "me/hardened", tmp_path)
    result = ["README.md", "before_after.png", "config.json", "encoder.safetensors", "srlvae.json"]
    # Names of photographs, logs and states are the user's own.
    own = ["left-out.csv", "log.jsonl", "logs/events.out", "checkpoints/last.safetensors", "snapshots/1.safetensors", ".lock"]
    patterns = {key: what[key] for key in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(sorted([*result, *own]), **patterns)) == result


def test_a_repository_that_is_none_is_refused(tmp_path):
    small_kl().save(tmp_path)
    (tmp_path / "README.md").write_text("A card.")
    with pytest.raises(InputError, match="written owner/name"):
        push(tmp_path, "me/har/dened")
