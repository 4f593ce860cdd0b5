"""What the tests of files share: IDX bytes, tiny data sets, and an HTTP server that misbehaves on request."""

import gzip
import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    return head + array.astype(np.uint8).tobytes()


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)


def write_split(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray, zipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        data = idx_bytes(array)
        name = f"{prefix}-{kind}-ubyte" + ".gz" * zipped
        (folder / name).write_bytes(gzip.compress(data, 1) if zipped else data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PATIENCE = 1.0  # seconds that a test waits for a server that falls silent; the server stays so for twice as long


class Server:
    """Serves `files` on loopback; `plan` lists what to do wrong, one entry a request, then it behaves.

    "wrong": other bytes; "truncated": half, then the connection closes; "stall": half, then silence; 404, 503: that
    status; "short": half, as if it were all; "ignore range": the whole file though a rest was asked for; "endless".
    """

    def __init__(self, files: dict[str, bytes]):
        self.files, self.plan, self.log = files, [], []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def __enter__(self):
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        asked = request.headers.get("Range")
        wrong = self.plan.pop(0) if self.plan else None
        self.log.append((name, asked, wrong))
        if isinstance(wrong, int) or name not in self.files:
            request.send_error(wrong or 404)
            return
        if isinstance(wrong, tuple):  # ("redirect", url)
            request.send_response(302)
            request.send_header("Location", wrong[1])
            request.end_headers()
            return
        body = self.files[name]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and wrong != "ignore range" else 0
        if start and start >= len(body):
            request.send_error(416)
            return
        body = bytes(len(body)) if wrong == "wrong" else body
        end = (start + len(body)) // 2 if wrong in ("truncated", "stall", "short") else len(body)
        sent = body[start:end]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if wrong != "endless":
            request.send_header("Content-Length", str(len(sent) if wrong == "short" else len(body) - start))
        request.end_headers()
        try:
            request.wfile.write(sent)
            request.wfile.flush()
            if wrong == "stall":
                time.sleep(2 * PATIENCE)
            while wrong == "endless":
                request.wfile.write(bytes(1 << 20))
        except OSError:
            pass  # the client has gone
