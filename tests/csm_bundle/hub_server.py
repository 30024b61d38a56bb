"""A stand-in for the Hugging Face hub on 127.0.0.1: the part of its HTTP API that downloads use.

It serves repositories from memory with commits, branches, gates and the hub's own error codes, and
writes down every request. It knows nothing of uploads, LFS or Xet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


def commit_of(files: Files) -> str:
    """A commit hash of the content, 40 hexadecimal digits like git's."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(files):
        digest.update(path.encode() + b"\0" + files[path] + b"\0")
    return digest.hexdigest()


@dataclass
class Repository:
    """A repository: commits by hash, and branches. A gated one serves files only to granted tokens."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    granted_tokens: frozenset[str] = frozenset()

    def push(self, files: Files, branch: str = "main") -> str:
        """Adds a commit with exactly these files, and moves the branch there. Returns its hash."""
        commit = commit_of(files)
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class HubServer:
    """The running fake hub. `requests` has "METHOD path" of every request."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""
    failing: bool = False  # answers everything with 503

    def repository(self, name: str, *, gated: bool = False, tokens: tuple[str, ...] = ()) -> Repository:
        self.repositories[name] = Repository(gated=gated, granted_tokens=frozenset(tokens))
        return self.repositories[name]


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Serves on a free port until the block ends."""
    hub = HubServer()

    class Handler(_Handler):
        server_state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Refusal(Exception):
    """An answer other than 200, in the hub's form: the reason is in a header."""

    def __init__(self, status: HTTPStatus, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server_state.requests.append(f"{self.command} {path}")
        try:
            if self.server_state.failing:
                raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "")
            headers, body = self._api(path) if path.startswith("/api/models/") else self._file(path)
        except _Refusal as refusal:
            self._send(refusal.status, {"X-Error-Code": refusal.code}, b"{}")
        else:
            self._send(HTTPStatus.OK, headers, body)

    def _api(self, path: str) -> tuple[dict[str, str], bytes]:
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        repository = self._repository(f"{owner}/{name}")
        revision = "/".join(rest[1:]) or "main"
        commit = self._commit(repository, revision)
        files = repository.commits[commit]
        if rest[:1] == ["tree"]:
            self._check_gate(repository)
            listing: object = [
                {"type": "file", "path": path, "size": len(files[path]), "oid": _etag(files[path])}
                for path in sorted(files)
            ]
        else:
            siblings = [{"rfilename": path} for path in sorted(files)]
            listing = {"id": f"{owner}/{name}", "sha": commit, "siblings": siblings}
        return {"Content-Type": "application/json"}, json.dumps(listing).encode()

    def _file(self, path: str) -> tuple[dict[str, str], bytes]:
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self._repository(name)
        commit = self._commit(repository, revision)
        self._check_gate(repository)
        if file not in repository.commits[commit]:
            raise _Refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
        content = repository.commits[commit][file]
        return {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit}, content

    def _repository(self, name: str) -> Repository:
        if name not in self.server_state.repositories:
            # The hub does not tell strangers whether a repository exists.
            status = HTTPStatus.NOT_FOUND if self._token() else HTTPStatus.UNAUTHORIZED
            raise _Refusal(status, "RepoNotFound")
        return self.server_state.repositories[name]

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return commit

    def _check_gate(self, repository: Repository) -> None:
        if repository.gated and self._token() not in repository.granted_tokens:
            status = HTTPStatus.FORBIDDEN if self._token() else HTTPStatus.UNAUTHORIZED
            raise _Refusal(status, "GatedRepo")

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
