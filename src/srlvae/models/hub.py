"""Files of the Hugging Face hub and of its cache, asked for once: without a network the answer comes at once."""

from __future__ import annotations

from pathlib import Path

from srlvae.errors import InputError
from srlvae.models.sources import Source
from srlvae.models.variants import VARIANTS, WEIGHTS_NAME
from srlvae.trust.folders import check_shards

# Seconds until a hub that does not answer is taken for none. The library itself would try for half a minute a file.
PATIENCE = 5
# A path that is written wrong looks like an id.
NOT_HERE = "it is no file or folder here either"


def online() -> bool:
    """Whether the hub answers."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # one library or another raises its own kinds
        return False
    return True


def fetch(source: Source, name: str, *, offline: bool) -> Path | None:
    """The file `name` of a repository, from the hub or its cache; None where the repository or the cache has none.

    Raises InputError for a repository or revision that does not exist or is not open, and for a failed download.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at {source.revision}" if source.revision else ""
    try:
        return Path(hf_hub_download(source.repository, name, revision=source.revision, local_files_only=offline))
    except EntryNotFoundError as error:
        # A network that failed on the way is told by the same class as a file that is not there.
        if isinstance(error, LocalEntryNotFoundError) and not offline:
            raise unreachable(source, name) from error
        return None
    except GatedRepoError as error:
        raise InputError(
            f"{source.repository} asks you to accept its terms: do so on its page, then run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(f"{source.repository}{at} is not on the hub, or it is private; {NOT_HERE}") from error
    except Exception as error:
        raise InputError(f"cannot get {name} of {source.repository}{at} from the hub: {error}") from error


def unreachable(source: Source, wanted: str) -> InputError:
    """The error for what neither the hub nor the cache gave."""
    return InputError(f"cannot reach {source.repository} on the hub: no network, and not in the cache ({wanted}); {NOT_HERE}")


def fetch_folder(source: Source, offline: bool) -> tuple[Path, str | None]:
    """The autoencoder's folder in the cache, with its configuration and weights in it, and the variant of these.

    Raises InputError where there are none.
    """
    config, inside = _fetch_config(source, offline)
    for variant in (source.word,) if source.word else (None, *VARIANTS):
        if _fetch_weights(source, inside, variant, offline):
            return config.parent, variant
    wanted = f"of the variant {source.word}" if source.word else "of diffusers' names"
    if offline:
        raise unreachable(source, f"no file of weights {wanted}")
    raise InputError(f"{source.repository} has no weights {wanted} beside its {inside}config.json")


def _fetch_config(source: Source, offline: bool) -> tuple[Path, str]:
    """The autoencoder's config.json, and its folder in the repository: the one named, a pipeline's `vae/`, or the top.

    Without a network it is whichever the cache has.
    """
    if source.inside:
        places = [f"{source.inside}/"]
    else:
        places = ["vae/"] if fetch(source, "model_index.json", offline=offline) else ["", "vae/"]
    for place in places:
        if found := fetch(source, f"{place}config.json", offline=offline):
            return found, place
    wanted = " or ".join(f"{place}config.json" for place in places)
    if offline:
        raise unreachable(source, wanted)
    raise InputError(f"{source.repository} has no {wanted}, so it is not an autoencoder in diffusers' format")


def _fetch_weights(source: Source, inside: str, variant: str | None, offline: bool) -> bool:
    """Get the weights of one variant, whole or in shards; whether there are any."""
    dotted = f".{variant}" if variant else ""
    for ending in ("safetensors", "bin"):
        if fetch(source, f"{inside}{WEIGHTS_NAME}{dotted}.{ending}", offline=offline):
            return True
        if index := fetch(source, f"{inside}{WEIGHTS_NAME}.{ending}.index{dotted}.json", offline=offline):
            return all(fetch(source, inside + shard, offline=offline) for shard in check_shards(index))
    return False
