"""A Hub on 127.0.0.1, small enough to read: what the real client needs to download, to fail and to push.

Weights are answered as the real Hub answers them, with a redirect to another server ("the CDN", here a second port).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_right"


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        listing = repr((len(self.commits), sorted(files.items())))
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def head(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    token: str | None
    server: str


class HubServer:
    """The Hub and its CDN. `faults` says how the next downloads of a file's body go wrong: "truncate" or a status."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: dict[str, list[str | int]] = {}
        self.down_with: int | None = None
        self._servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), self._handler(name)) for name in ("hub", "cdn")}
        for server in self._servers.values():
            # The default poll of half a second would be most of a test's time.
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()

    def url(self, server: str = "hub") -> str:
        return f"http://127.0.0.1:{self._servers[server].server_port}"

    def add(self, repo_id: str, files: dict[str, bytes], **kind: bool) -> str:
        """Commit the files to main and return the commit."""
        return self.repositories.setdefault(repo_id, Repository(**kind)).commit(files)

    def requested(self, ending: str, method: str = "GET") -> list[Request]:
        return [request for request in self.requests if request.method == method and request.path.endswith(ending)]

    def close(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _handler(self, server: str) -> type[BaseHTTPRequestHandler]:
        hub = self

        class BoundHandler(Handler):
            def __init__(self, *arguments: Any) -> None:
                self.hub, self.server_name = hub, server
                super().__init__(*arguments)

        return BoundHandler


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection ends with its answer, so a server that was closed is gone at once."""

    hub: HubServer
    server_name: str

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answer(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, token, self.server_name))
        self.body = self._read_body()
        try:
            if self.hub.down_with:
                raise Refusal(self.hub.down_with)
            if self.server_name == "cdn":
                self._cdn(path)
                return
            if token not in (None, TOKEN):
                raise Refusal(401, message="Invalid credentials in Authorization header")
            self.signed_in = token is not None
            self._hub(path)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._send(refusal.status, b"", {name: value for name, value in headers.items() if value})

    def _hub(self, path: str) -> None:
        match path.strip("/").split("/"):
            case [owner, name, "resolve", revision, *file]:
                self._resolve(f"{owner}/{name}", revision, "/".join(file))
            case [_, _, "info", "lfs", "objects", "batch"]:
                self._lfs_batch()
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create()
            case ["api", "models", owner, name, "revision", revision]:  # asked by older clients before a commit
                self._json({"id": f"{owner}/{name}", "sha": self._files(f"{owner}/{name}", revision)[0]})
            case ["api", "models", owner, name, "tree", revision]:
                self._tree(self._files(f"{owner}/{name}", revision)[1])
            case ["api", "models", owner, name, "preupload", _]:
                self._preupload()
            case ["api", "models", owner, name, "commit", revision]:
                self._commit(f"{owner}/{name}", revision)
            case _:
                raise Refusal(404, "RepoNotFound")

    def _cdn(self, path: str) -> None:
        oid = path.rsplit("/", 1)[-1]
        if self.command == "PUT":
            self.hub.blobs[oid] = self.body
            self._send(200, b"")
        else:
            self._send_file(oid, self.hub.blobs[oid], {})

    # Downloads

    def _files(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.hub.repositories.get(repo_id)
        if repository is None or (repository.private and not self.signed_in):
            raise Refusal(404 if self.signed_in else 401, "RepoNotFound")
        if repository.gated:
            raise Refusal(403, "GatedRepo")
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def _resolve(self, repo_id: str, revision: str, file: str) -> None:
        sha, files = self._files(repo_id, revision)
        commit = {"X-Repo-Commit": sha}
        if file not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", **commit})
        elif file.endswith(".safetensors"):
            oid = hashlib.sha256(files[file]).hexdigest()
            self.hub.blobs[oid] = files[file]
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(files[file]))}
            self._send(302, b"", {"Location": f"{self.hub.url('cdn')}/{oid}", **linked, **commit})
        else:
            self._send_file(file, files[file], {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', **commit})

    def _send_file(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        faults = self.hub.faults.get(name, []) if self.command == "GET" else []
        fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            raise Refusal(fault)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}", **headers}
        self._send(206 if start else 200, data[start:], headers, truncate=fault == "truncate")

    # Uploads

    def _create(self) -> None:
        if not self.signed_in:
            raise Refusal(401, message="Invalid username or password.")
        wanted = json.loads(self.body)
        repo_id = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        status = 409 if repo_id in self.hub.repositories else 200
        if status == 200:
            self.hub.repositories[repo_id] = Repository(private=wanted.get("visibility") == "private")
            self.hub.repositories[repo_id].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.url()}/{repo_id}"}, status)

    def _tree(self, files: dict[str, bytes]) -> None:
        self._json(
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
        )

    def _preupload(self) -> None:
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
        self._json(
            {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
        )

    def _lfs_batch(self) -> None:
        objects = json.loads(self.body)["objects"]
        upload = self.hub.url("cdn")
        self._json(
            {
                "transfer": "basic",
                "objects": [
                    {**thing, "actions": {"upload": {"href": f"{upload}/{thing['oid']}"}}} for thing in objects
                ],
            }
        )

    def _commit(self, repo_id: str, revision: str) -> None:
        files = dict(self._files(repo_id, revision)[1])
        for line in self.body.splitlines():
            item = json.loads(line)
            match item["key"], item["value"]:
                case "file", {"path": path, "content": content}:
                    files[path] = base64.b64decode(content)
                case "lfsFile", {"path": path, "oid": oid}:
                    files[path] = self.hub.blobs[oid]
                case "deletedFile", {"path": path}:
                    del files[path]
        as_pull_request = parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"]
        sha = self.hub.repositories[repo_id].commit(files, "refs/pr/1" if as_pull_request else revision)
        url = f"{self.hub.url()}/{repo_id}"
        self._json({"commitUrl": f"{url}/commit/{sha}", "commitOid": sha, "pullRequestUrl": f"{url}/discussions/1"})

    # HTTP

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, truncate: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if truncate else body)
