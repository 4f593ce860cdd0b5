"""A page on this machine that talks to Python: standard library, loopback only, a token in its address.

    Server(Path("explore.html").read_bytes(), {"/step": lambda asked: {...}}).run()

Any program of this machine, and any page in its browser, can reach a port of it.  So nothing is answered without the
token, which is new each time and known to who was told the address; nor a request for another host's name, by which a
foreign page could pose as this one (DNS rebinding); nor one that a page of another origin sends.
"""

import contextlib
import hmac
import json
import secrets
import threading
import webbrowser
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST_REQUEST = 1 << 16  # bytes
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"


class Server(ThreadingHTTPServer):
    """page: the HTML of "/".  answers: path -> function from a JSON object to a JSON value, called one at a time.

    A ValueError of such a function is the asker's: the page gets its sentence, with status 400.
    """

    daemon_threads = True

    def __init__(self, page: bytes, answers: Mapping[str, Callable[[dict], object]]):
        super().__init__(("127.0.0.1", 0), _Handler)  # 0: any port that is free
        self.page, self.answers, self.token = page, answers, secrets.token_urlsafe(16)
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def run(self, browser: bool = False) -> None:
        """Until Ctrl-C."""
        print(f"Open {self.address} in a browser of this machine; Ctrl-C ends it.", flush=True)
        if browser:
            webbrowser.open(self.address)
        with self:
            self.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # seconds that a client may be silent

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if self._welcome(query.removeprefix("token=")):
            if path == "/":
                self._send(200, self.server.page, "text/html; charset=utf-8")
            else:
                self._send(404, b"there is nothing here", "text/plain")

    def do_POST(self) -> None:
        if not self._welcome(self.headers.get("X-Token", "")):
            return
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else -1
        if not 0 <= size <= LARGEST_REQUEST:
            self._send(413, b"a request needs a length, of at most 64 KiB", "text/plain")
            self.rfile.read(min(max(0, size), 128 * LARGEST_REQUEST))  # else who still sends would see a broken one
            return
        answer = self.server.answers.get(self.path)
        if answer is None:
            return self._send(404, b"there is nothing here", "text/plain")
        try:
            asked = json.loads(self.rfile.read(size))
            if not isinstance(asked, dict):
                raise ValueError(f"a request is a JSON object; given {asked!r:.40}")
            with self.server.lock:
                said = json.dumps(answer(asked)).encode()
        except (ValueError, RecursionError) as error:
            return self._send(400, str(error).encode(), "text/plain; charset=utf-8")
        self._send(200, said, "application/json")

    def _welcome(self, token: str) -> bool:
        """Whether this may be answered; says so where not."""
        host, _, _ = (whole := self.headers.get("Host", "")).rpartition(":")
        known = hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        ours = host in ("127.0.0.1", "localhost") and self.headers.get("Origin") in (None, f"http://{whole}")
        if not known or not ours:
            self._send(403, b"open the address that was printed, token and all", "text/plain")
            return False
        return True

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Content-Security-Policy": POLICY,
                   "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}  # fmt: skip
        for name, value in {**headers, "X-Content-Type-Options": "nosniff"}.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # who asked has gone
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_) -> None:  # the address, with its token, does not belong into a log
        pass
