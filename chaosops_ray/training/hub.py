"""Upload of an exported adapter to a hub; errors and warnings never show the token."""

from __future__ import annotations

import os
import string
import warnings
from typing import NamedTuple

from huggingface_hub import HfApi

# HTTPError is raised by the transport if the hub cannot be reached; the library has changed its transport before.
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils import validate_repo_id

from chaosops_ray import __version__
from chaosops_ray.plain_text import one_line
from chaosops_ray.sim.errors import InputError
from chaosops_ray.training.export import Exported

# The only variable from which a token is read.
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + string.punctuation)


class Repository(NamedTuple):
    """A repository of a hub, and the client that reaches it."""

    name: str
    api: HfApi


def repository(name: str) -> Repository:
    """Return the repository OWNER/NAME of the hub with the token of the environment; fail now if there is none."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push: {one_line(str(error))}") from None
    if name.count("/") != 1:
        raise InputError(f"--push {name} has no owner; write OWNER/NAME")
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InputError(f"--push needs a token that may write to {name}; set {TOKEN}")
    if not _TOKEN_CHARACTERS.issuperset(token):
        raise InputError(f"{TOKEN} contains characters that no token has; set it again")
    return Repository(name, HfApi(token=token, library_name="chaosops_ray", library_version=__version__))


def push(exported: Exported, to: Repository, *, public: bool) -> list[str]:
    """Upload an exported folder, into a private repository unless it may be public; return the hub's warnings."""
    commit = f"{exported.version.name}, {exported.version.digest[:12]}"
    # The library warns of retries, and with HF_DEBUG it logs requests; the error below says enough.
    hub_logging.set_verbosity_error()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            to.api.create_repo(to.name, private=not public, exist_ok=True)
            # A repository that exists already keeps its visibility.
            is_open = not public and not to.api.model_info(to.name).private
            if not is_open:
                to.api.upload_folder(repo_id=to.name, folder_path=exported.folder, commit_message=commit)
        # HTTP, the disk, a card that the hub refuses, an answer that is not JSON, the transfer of large files
        except (HfHubHTTPError, HTTPError, OSError, ValueError, RuntimeError) as error:
            reason = one_line(_scrubbed(str(error), to)) or type(error).__name__
            raise InputError(f"cannot push {exported.folder} to {to.name}: {reason}") from None
    if is_open:
        raise InputError(f"{to.name} exists and is public, nothing was uploaded; give --public to upload to it")
    # Each of the hub's own warnings once; other categories are for developers of libraries.
    texts = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return [one_line(_scrubbed(text, to)) for text in texts]


def _scrubbed(text: str, to: Repository) -> str:
    """Remove the token, which a hub or a library may quote."""
    return text.replace(to.api.token, f"[{TOKEN}]")
