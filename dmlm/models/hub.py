"""Exchange of encoders through a model hub: safetensors, a configuration and a card; never a pickle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dmlm.errors import CheckpointError, MissingDependencyError
from dmlm.models.card import ModelCard
from dmlm.models.encoder import ProbabilisticEncoder
from dmlm.models.pretrained import from_pretrained, save_pretrained

FILES = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
"""What an encoder's repository holds; nothing else is downloaded."""


def push_to_hub(
    encoder: ProbabilisticEncoder, repo_id: str, card: ModelCard, private: bool = True, revision: str | None = None
) -> str:
    """Upload an encoder with its card; the token is the one that ``hf auth login`` or ``HF_TOKEN`` set.

    Weights that were trained on credentialed data (MIMIC-CXR) fall under its data use agreement: a repository is
    private unless you say otherwise.

    Args:
        encoder: What to upload.
        repo_id: ``owner/name``; made if it does not exist.
        card: What the weights are and are not for.
        private: Whether a new repository is private.
        revision: Branch to write to; None means the main one.

    Returns:
        Address of the commit.

    Raises:
        MissingDependencyError: If huggingface_hub is not installed.
        CheckpointError: If the upload fails.
    """
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(encoder, folder)
        card.write(folder, encoder)
        try:
            api = hub.HfApi()
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message="Upload encoder with dmlm"
            )
        except Exception as error:
            msg = f"upload to '{repo_id}' failed: {' '.join(str(error).split())[:300]}; log in with 'hf auth login'"
            raise CheckpointError(msg) from error
    return str(commit)


def from_hub(repo_id: str, revision: str | None = None) -> ProbabilisticEncoder:
    """Download an encoder and load it, in evaluation mode; usable as ``class_path: dmlm.models.from_hub``.

    Args:
        repo_id: ``owner/name``.
        revision: Branch, tag or commit; name a commit where results must be repeatable.

    Raises:
        MissingDependencyError: If huggingface_hub is not installed.
        CheckpointError: If the download fails, or the repository holds no encoder.
    """
    hub = _hub()
    try:
        folder = hub.snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES))
    except Exception as error:
        msg = f"download of '{repo_id}' failed: {' '.join(str(error).split())[:300]}; offline, pass a folder instead"
        raise CheckpointError(msg) from error
    return from_pretrained(str(Path(folder)))


def _hub() -> Any:  # noqa: ANN401 - a module
    try:
        import huggingface_hub
    except ImportError as error:
        package = "huggingface_hub"
        raise MissingDependencyError(package, "hub") from error
    return huggingface_hub
