"""A web server on this machine that serves files from memory, parts of files, and faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


@dataclass
class FileServer:
    """Serve ``files`` (content by name) at ``url`` while used as a context.

    ``break_after``: numbers of bytes after which the next connections break off, one by one.
    ``requests``: what was asked for so far, as (name, value of the Range header or None).
    """

    files: dict[str, bytes]
    break_after: list[int] = field(default_factory=list)
    resumes: bool = True
    version: str = '"1"'
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name, wanted = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
                server.requests.append((name, wanted))
                if name not in server.files:
                    return self.send_error(404)
                content, start = server.files[name], 0
                if server.resumes and wanted and self.headers.get("If-Range") == server.version:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(content):
                        return self.send_error(416)
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("Content-Type", "application/gzip")
                self.send_header("Content-Encoding", "gzip")  # some servers do; it must arrive packed
                self.send_header("ETag", server.version)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                end = start + server.break_after.pop(0) if server.break_after else None
                self.wfile.write(content[start:end])

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/suppl"
