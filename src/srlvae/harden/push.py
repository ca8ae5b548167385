"""A hardened VAE for others: its folder onto the hub."""

from __future__ import annotations

from pathlib import Path

from srlvae.errors import InputError
from srlvae.harden.card import CARD, PICTURE
from srlvae.models.vae import RECORD

# What others need. All else that lies there, such as the names of photographs that were left out, is the user's own.
PUBLIC = ["config.json", "*.safetensors", "*.safetensors.index.json", CARD, PICTURE, RECORD]
BELOW = "*/*"


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder that `srlvae harden` wrote to `repository` on the hub, which is made where it is not there.

    repository: an id, owner/name. Returns the address of its page. Only the files in PUBLIC are uploaded; PICTURE shows up to
    four of the photographs that the run set apart.
    Raises InputError for a folder without model or card, and where the hub refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    for name in ("config.json", CARD):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}; give a folder that `srlvae harden` wrote")
    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=PUBLIC,
            ignore_patterns=BELOW,
            commit_message="A hardened VAE",
        )
    except HFValidationError as error:
        raise InputError(f"{repository} is not the id of a repository, which is written owner/name") from error
    except Exception as error:  # the hub's library raises its own kinds and those of what it is built on
        raise InputError(
            f"cannot push to {repository}: {error} (log in with `hf auth login` and a token that may write)"
        ) from error
    return str(url)
