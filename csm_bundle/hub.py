"""Files of Hugging Face repositories, downloaded into the local cache. It knows nothing of bundles.

Everything goes through `huggingface_hub`, so its cache, its environment (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
`HF_HUB_OFFLINE`) and its login apply here too. A revision is resolved to a commit once, and every file then comes from
that commit. Failures are raised as errors of `csm_bundle.errors`, whose messages say what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Self

import httpx
from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub import errors as hub_errors

from csm_bundle.errors import BundleError, GatedRepositoryError, HubUnavailableError

_REFERENCE = re.compile(
    r"(?:hf:)?(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<path>.+))?"
)


def checked_relative_path(path: str, where: str) -> str:
    """The normalised path; "" is the folder itself. Raises BundleError, naming `where`, if it leaves the folder."""
    pure = PurePosixPath(path)
    if not path or "\\" in path or pure.is_absolute() or ".." in pure.parts:
        raise BundleError(f'{where} is "{path}"; it has to be a relative path with "/" and without "..".')
    return "" if str(pure) == "." else str(pure)


@dataclass(frozen=True, slots=True)
class HubReference:
    """`hf:OWNER/REPO[@REVISION][:PATH]`: a repository, or one file or folder of it."""

    repository: str
    revision: str | None = None  # branch, tag or commit; the default branch when None
    path: str = ""  # below the repository's root; "" is the root

    @classmethod
    def parse(cls, text: str, where: str = "The reference") -> Self:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise BundleError(f'{where} is "{text}"; allowed is hf:OWNER/REPO[@REVISION][:PATH].')
        path = match["path"]
        return cls(
            repository=match["repository"],
            revision=match["revision"],
            path=checked_relative_path(path, f'The path in "{text}"') if path else "",
        )

    def below(self, path: str) -> Self:
        return replace(self, path=f"{self.path}/{path}" if self.path else path)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repository}{revision}{':' + self.path if self.path else ''}"


@dataclass(frozen=True, slots=True)
class Hub:
    """How the hub is reached. None is what huggingface_hub uses (environment, login)."""

    offline: bool = False  # take everything from the cache
    cache_dir: Path | None = None
    token: str | None = None
    endpoint: str | None = None

    def pin(self, reference: HubReference) -> HubReference:
        """The same reference with its revision resolved to a commit."""
        with _readable_errors(reference):
            revision = HfApi(endpoint=self.endpoint, token=self.token).resolve_revision(
                reference.repository,
                revision=reference.revision,
                cache_dir=self.cache_dir,
                local_files_only=self.offline,
            )
        return replace(reference, revision=revision.resolved)

    def names(self, pinned: HubReference) -> frozenset[str]:
        """The names of all files at or below a pinned reference, relative to the repository's root."""
        with _readable_errors(pinned):
            names = frozenset(self._listing(pinned))
        prefix = f"{pinned.path}/" if pinned.path else ""
        found = frozenset(n for n in names if n == pinned.path or n.startswith(prefix))
        if not found:
            raise BundleError(
                f'{pinned.repository} has no "{pinned.path}" at revision {pinned.revision}; '
                f"it has {', '.join(sorted(names)[:20]) or 'no files'}."
            )
        return found

    def fetch(self, pinned: HubReference, names: frozenset[str]) -> Path:
        """Downloads the named files unless they are cached. Returns the local path of the reference."""
        with _readable_errors(pinned):
            snapshot = snapshot_download(
                pinned.repository,
                revision=pinned.revision,
                allow_patterns=sorted(map(escape, names)),
                cache_dir=self.cache_dir,
                local_files_only=self.offline,
                token=self.token,
                endpoint=self.endpoint,
            )
        missing = [name for name in sorted(names) if not Path(snapshot, name).is_file()]
        if missing:
            raise HubUnavailableError(_unavailable(pinned, f"{', '.join(missing)} not in the cache"))
        return Path(snapshot, pinned.path)

    def _listing(self, pinned: HubReference) -> list[str]:
        try:
            cached = get_cached_repo_tree(pinned.repository, revision=pinned.revision, cache_dir=self.cache_dir)
        except hub_errors.CachedRepoTreeNotFoundError:
            if self.offline:
                raise
            api = HfApi(endpoint=self.endpoint, token=self.token)
            return api.list_repo_files(pinned.repository, revision=pinned.revision)
        return [file.path for file in cached]


@contextmanager
def _readable_errors(reference: HubReference) -> Iterator[None]:
    """Turns huggingface_hub's errors into ours. Subclasses are caught before their base classes."""
    repository = reference.repository
    try:
        yield
    except hub_errors.HFValidationError as error:
        raise BundleError(f"{reference} names no repository that the hub could have: {_first_line(error)}") from None
    except hub_errors.GatedRepoError as error:
        raise GatedRepositoryError(_how_to_get_access(repository)) from error
    except hub_errors.RevisionNotFoundError as error:
        raise BundleError(
            f'{repository} has no revision "{reference.revision}"; give a branch, tag or commit.'
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"The hub has no repository {repository}, or it is private and the token may not read it."
        ) from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise BundleError(f"{reference} does not exist on the hub: {_first_line(error)}") from error
    except hub_errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise BundleError(
                f"The hub refused the access token for {repository} ({_first_line(error)}). "
                "A token with read access is needed: check HF_TOKEN, or run `hf auth login` again."
            ) from error
        raise HubUnavailableError(_unavailable(reference, _first_line(error))) from error
    except (
        hub_errors.LocalEntryNotFoundError,
        hub_errors.CachedRepoTreeNotFoundError,
        hub_errors.RevisionResolutionError,
        hub_errors.OfflineModeIsEnabled,
        httpx.TransportError,
    ) as error:
        raise HubUnavailableError(_unavailable(reference, _first_line(error))) from error
    except OSError as error:
        raise BundleError(
            f"{reference} cannot be stored in the local cache: {_first_line(error)}. "
            "Make room or give write access there, or point HF_HOME at another folder."
        ) from error


def _how_to_get_access(repository: str) -> str:
    return (
        f"{repository} is gated: access is given to those who accept its licence, and the hub "
        "refused it. "
        f"1. Open https://huggingface.co/{repository}, log in and accept the licence. "
        "2. Make a token with read access at https://huggingface.co/settings/tokens. "
        "3. Set HF_TOKEN to it, or run `hf auth login`. 4. Start again."
    )


def _unavailable(reference: HubReference, reason: str) -> str:
    return (
        f"{reference} is not in the local cache and could not be downloaded: {reason} "
        "Run once with access to the hub and without offline mode, or point HF_HOME at a cache "
        "that holds it."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
