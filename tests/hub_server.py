"""A small stand-in for the Hugging Face hub: its HTTP interface, as `huggingface_hub` uses it.

https://huggingface.co/docs/hub/api; repositories are held in memory, a commit is a dictionary of
files.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"  # noqa: S105
READ_ONLY = "hf_read_only"

Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by hash, and the commits that branches and tags point to."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, ref: str = "main") -> str:
        """Add a commit that `ref` points to, and return its hash."""
        text = repr((len(self.commits), sorted(files.items())))
        name = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324
        self.commits[name] = files
        self.refs[ref] = name
        return name


@dataclass
class Hub:
    """The hub's repositories, and the requests that it has answered."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    full: bool = False  # whether uploads are refused
    large: Files = field(default_factory=dict)  # by SHA-256, what Git LFS uploaded
    address: str = ""

    def add(
        self, repo_id: str, folder: Path, more: Files | None = None, ref: str = "main"
    ) -> Repository:
        """Commit the files of a folder, and more, to a repository."""
        repository = self.repositories.setdefault(repo_id, Repository())
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        repository.commit(files | (more or {}), ref)
        return repository

    @property
    def downloads(self) -> list[str]:
        """Names of the files that were downloaded."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET /own")]


class Refusal(Exception):
    """An HTTP status, the hub's code and message of an error, and the address that it is about."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        try:
            status, headers, content = 200, *self.route(path, body)
        except Refusal as refusal:
            status, code, message, *url = refusal.args
            headers, content = as_json({"error": message, "url": "".join(url)})
            headers |= {"X-Error-Code": code, "X-Error-Message": message}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def route(self, path: str, body: bytes) -> tuple[dict[str, str], bytes]:
        """Return headers and content of an answer."""
        if self.command in ("POST", "PUT"):
            return as_json(self.write(path, body))
        match = re.fullmatch(
            r"/(?:api/models/)?(?P<repo>[^/]+/[^/]+)(?:/(?P<what>\w+)/(?P<ref>[^/]+))?(?P<file>/.+)?",
            path,
        )
        assert match is not None, path
        repository = self.repository(match["repo"])
        sha = repository.refs.get(match["ref"] or "main", match["ref"] or "")
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {match['ref']}")
        files = repository.commits[sha]
        if match["what"] == "tree":
            return as_json([entry(name, content) for name, content in files.items()])
        if match["what"] == "resolve":
            return self.resolve(files, sha, match["file"][1:])
        siblings = [{"rfilename": name} for name in files]
        about = {"id": match["repo"], "sha": sha, "private": repository.private}
        return as_json({**about, "siblings": siblings, "tags": [], "downloads": 0})

    def write(self, path: str, body: bytes) -> Any:
        """Return the answer to an upload, as plain data."""
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if self.command == "PUT":
            if self.hub.full:
                raise Refusal(413, "", "no storage left")
            self.hub.large[path.rpartition("/")[2]] = body
            return {}
        self.check_writable()
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.lfs_batch(json.loads(body)["objects"])
        match = re.fullmatch(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>\w+)/main", path)
        assert match is not None, path
        repository = self.repository(match["repo"])
        if match["what"] == "commit":
            return self.commit(repository, match["repo"], body)
        names = [one["path"] for one in json.loads(body)["files"]]
        modes = ["lfs" if is_large(name) else "regular" for name in names]
        return {
            "files": [
                {"path": name, "uploadMode": mode, "shouldIgnore": False}
                for name, mode in zip(names, modes, strict=True)
            ]
        }

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def repository(self, repo_id: str) -> Repository:
        found = self.hub.repositories.get(repo_id)
        if found is None or (found.private and not self.token()):
            status = 404 if self.token() else 401
            raise Refusal(status, "RepoNotFound", "Repository not found")
        return found

    def check_writable(self) -> None:
        if self.token() == READ_ONLY:
            raise Refusal(403, "", "You don't have the rights to create a model")
        if self.token() != TOKEN:
            raise Refusal(401, "", "Invalid username or password.")

    def create(self, order: dict[str, Any]) -> dict[str, str]:
        repo_id = f"{order['organization']}/{order['name']}"
        url = f"{self.hub.address}/{repo_id}"
        if repo_id in self.hub.repositories:
            raise Refusal(409, "", "You already created this model repo", url)
        private = order.get("visibility") == "private" or bool(order.get("private"))
        self.hub.repositories[repo_id] = Repository(private)
        self.hub.repositories[repo_id].commit({".gitattributes": b""})
        return {"url": url}

    def commit(self, repository: Repository, repo_id: str, body: bytes) -> dict[str, str]:
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(repository.commits[repository.refs["main"]])
        for value in (line["value"] for line in lines if line["key"] == "file"):
            files[value["path"]] = base64.b64decode(value["content"])
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            files[value["path"]] = self.hub.large[value["oid"]]
        sha = repository.commit(files)
        address = f"{self.hub.address}/{repo_id}/commit/{sha}"
        return {"commitUrl": address, "commitOid": sha, "hookOutput": ""}

    def resolve(self, files: Files, sha: str, name: str) -> tuple[dict[str, str], bytes]:
        if name not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}  # noqa: S324
        if is_large(name):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(files[name]).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(files[name]))
        return headers, files[name]

    def lfs_batch(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        answers = [
            one | {"actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}}
            for one in objects
        ]
        return {"transfer": "basic", "objects": answers}


def as_json(content: Any) -> tuple[dict[str, str], bytes]:
    """Return headers and content of an answer in JSON."""
    return {"Content-Type": "application/json"}, json.dumps(content).encode()


def entry(name: str, content: bytes) -> dict[str, Any]:
    """Return a file as the listing of a repository has it."""
    oid = hashlib.sha1(content).hexdigest()  # noqa: S324
    found = {"type": "file", "path": name, "size": len(content), "oid": oid}
    if is_large(name):
        sha256 = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return found


def is_large(name: str) -> bool:
    """Return whether the hub holds a file with Git LFS."""
    return name.endswith(".safetensors")


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub at its `address` within the block."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
