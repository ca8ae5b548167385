"""What is asked of the hub, by a server on this machine that answers as it does."""

from __future__ import annotations

import functools
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import save_file

from conftest import small_kl, small_tiny
from ldm import tiny_decoder, tiny_encoder
from srlvae.errors import InputError
from srlvae.models.vae import load_vae

COMMIT = "a" * 40


class Answers(BaseHTTPRequestHandler):
    """Files of the repositories in a folder, under /owner/name/resolve/revision/path; every revision but `main` is unknown."""

    def __init__(self, root: Path, asked: list[str], *given):
        self.root, self.asked = root, asked
        super().__init__(*given)

    def log_message(self, format: str, *values: object) -> None: ...

    def do_HEAD(self) -> None:
        owner, name, _, revision, *path = self.path.strip("/").split("/") if self.path != "/" else ("", "", "", "main")
        repository, file = self.root / owner / name, self.root / owner / name / "/".join(path)
        self.asked.append("/".join(path))
        lacks = "RepoNotFound" if not repository.is_dir() else "RevisionNotFound" if revision != "main" else "EntryNotFound"
        found = repository.is_dir() and revision == "main" and (file.is_file() or not path)
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        if found and path:
            self.content = file.read_bytes()
            self.send_header("ETag", hashlib.sha1(self.content).hexdigest())
            self.send_header("Content-Length", str(len(self.content)))
        elif not found:
            self.send_header("X-Error-Code", lacks)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of the hub's repositories, and the paths that it was asked for."""
    root, asked = tmp_path / "hub", []
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Answers, root, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield root, asked
    server.shutdown()
    server.server_close()


def test_one_of_the_two_files_of_a_taesd_finds_the_other(hub):
    root, _ = hub
    (root / "a" / "taesd").mkdir(parents=True)
    for half, model in (("encoder", tiny_encoder(4)), ("decoder", tiny_decoder(4))):
        save_file(model.state_dict(), root / "a" / "taesd" / f"taesd_{half}.safetensors")
    pair = [load_vae(f"hf://a/taesd/taesd_{half}.safetensors").fingerprint() for half in ("encoder", "decoder")]
    assert pair[0] == pair[1]


def test_the_autoencoder_of_a_pipeline_and_one_at_the_top_are_found(hub):
    root, asked = hub
    small_kl().save(root / "a" / "pipeline" / "vae")
    (root / "a" / "pipeline" / "model_index.json").write_text("{}")
    small_tiny().save(root / "a" / "top")
    assert (
        load_vae("hf://a/pipeline").fingerprint() == load_vae("hf://a/pipeline/vae").fingerprint() == small_kl().fingerprint()
    )
    assert "unet/config.json" not in asked
    loaded = load_vae("hf://a/top")
    assert loaded.fingerprint() == small_tiny().fingerprint() and loaded.model.config._name_or_path == "a/top"


def test_weights_in_half_precision_alone_are_found_whole_and_in_shards(hub):
    root, _ = hub
    small_kl().save(root / "a" / "half", "fp16")
    small_kl().model.save_pretrained(root / "a" / "shards", max_shard_size="20KB", variant="fp16")
    for name in ("hf://a/half", "hf://a/half:fp16", "hf://a/shards", "hf://a/half@main:fp16"):
        assert load_vae(name).fingerprint() == small_kl().fingerprint()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://a/nothing", "a/nothing is not on the hub, or it is private; it is no file or folder here either"),
        ("hf://a/top@v7", "a/top at v7 is not on the hub"),
        ("hf://a/top/sub", "a/top has no sub/config.json"),
        ("hf://a/top:fp16", "no weights of the variant fp16"),
        ("hf://a/top/ae.safetensors", "a/top has no file ae.safetensors"),
    ],
)
def test_what_is_not_there_is_named(name, message, hub):
    small_tiny().save(hub[0] / "a" / "top")
    with pytest.raises(InputError, match=message):
        load_vae(name)
