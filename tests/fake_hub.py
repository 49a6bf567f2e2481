"""A Hugging Face Hub on this machine: what `huggingface_hub` asks to make, fill and read models."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub(BaseHTTPRequestHandler):
    """Its repositories are those of the server: files by name, by the repository's name."""

    server: "HubServer"

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, content: object, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        sent, repos = self.rfile.read(length), self.server.repos
        if self.server.refuses:
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            told = json.loads(sent)
            name = f"{told['organization']}/{told['name']}"
            known = name in repos
            repos.setdefault(name, {})
            return self._json({"url": f"{self.server.address}/{name}"}, 409 if known else 200)
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        parts = self.path.split("/")
        name, what = "/".join(parts[3:5]), parts[5]
        if what == "preupload":
            files = [{**file, "uploadMode": "regular"} for file in json.loads(sent)["files"]]
            return self._json({"files": [{**f, "shouldIgnore": False, "oid": None} for f in files]})
        assert what == "commit", self.path
        for line in map(json.loads, sent.splitlines()):
            if line["key"] == "file":
                repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        oid = self._commit(name)
        return self._json(
            {"commitOid": oid, "commitUrl": f"{self.server.address}/{name}/commit/{oid}"}
        )

    def _commit(self, name: str) -> str:
        held = sorted(self.server.repos[name].items())
        return hashlib.sha1(repr(held).encode()).hexdigest()

    def do_HEAD(self) -> None:
        self._file(head=True)

    def do_GET(self) -> None:
        self._file(head=False)

    def _file(self, head: bool) -> None:
        parts = self.path.removeprefix("/").split("/", 4)
        name = "/".join(parts[:2])
        if len(parts) < 5 or name not in self.server.repos:
            self._answer(404, X_Error_Code="RepoNotFound")
        elif parts[4] not in self.server.repos[name]:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=self._commit(name))
        else:
            content = self.server.repos[name][parts[4]]
            told = {
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "X_Repo_Commit": self._commit(name),
                "Content_Length": str(len(content)),
            }
            self._answer(200, b"" if head else content, **told)


class HubServer(ThreadingHTTPServer):
    """Of one test.

    Attributes:
        repos: files by name, by the repository's name.
        refuses: whether whoever writes is not let in.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[HubServer]:
    """A hub, as long as the block runs."""
    with HubServer() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
