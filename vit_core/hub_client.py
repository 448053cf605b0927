"""Talking to the Hub: where it is, and what went wrong in one sentence."""

from __future__ import annotations

import os

LIBRARY_NAME = "trivit"


def check_hub_id(name: str) -> None:
    """Raise OSError unless a repository on the Hub could have this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        reason = str(error).partition(". Use `repo_type`")[0].rstrip(".")  # an argument of the client, not of ours
        raise OSError(f"{name!r} is neither a folder nor a Hub id: {reason}") from error


def endpoint() -> str | None:
    """The Hub to talk to, read at every call; None for the client's default."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def root_cause(error: Exception) -> BaseException:
    """What went wrong first: the client wraps it when it has no copy either, or when it was uploading."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    reason: BaseException = error
    while type(reason) in (ValueError, RuntimeError, LocalEntryNotFoundError) and reason.__cause__ is not None:
        reason = reason.__cause__
    return reason


def is_offline(reason: BaseException) -> bool:
    """Whether the client was told not to use the network."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return isinstance(reason, (LocalEntryNotFoundError, OfflineModeIsEnabled))


def sentence(reason: BaseException, action: str, repo_id: str, revision: str) -> str:
    """Say what kept us from the action, and what to do about it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    hub = HfApi(endpoint=endpoint()).endpoint
    status = getattr(getattr(reason, "response", None), "status_code", None)
    log_in = "pass token=... or run `hf auth login`"
    if is_offline(reason):
        why = "we are offline and have no copy of it that may be used; do it once with a network"
    elif isinstance(reason, GatedRepoError):
        why = f"the repository is gated; ask for access at {hub}/{repo_id}, then {log_in}"
    elif isinstance(reason, RepositoryNotFoundError):
        why = f"{hub} has no such repository; check the spelling or, if it is private, {log_in}"
    elif isinstance(reason, RevisionNotFoundError):
        why = f"the repository has no revision {revision!r}; name a branch, tag or commit that it has"
    elif status == 401:
        why = f"{hub} did not accept the token, or wants one (401); {log_in}"
    elif status == 403:
        why = f"{hub} says that this account may not (403); use a token with the permission"
    elif status is not None:
        why = f"{hub} answered with status {status}; try again later"
    else:
        detail = (str(reason).splitlines() or [""])[0] or type(reason).__name__
        why = (
            f"the exchange with {hub} failed ({detail}); check the network and HF_ENDPOINT, or work with what was "
            "downloaded before (local_files_only=True or HF_HUB_OFFLINE=1)"
        )
    return f"cannot {action}: {why}."
