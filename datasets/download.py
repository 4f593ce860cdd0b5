"""Fetching a published file once, safely: over HTTPS, checked by hash, resumed after a break, put in place in one move.

What has arrived lies beside the target in a hidden `.part` file, which a later attempt, also of a later process,
continues. Two processes that want the same file take turns by a lock on its folder.
"""

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from datasets.errors import DataError
from disk import files
from disk.lock import locked

LIMIT = 64 * 2**20  # bytes; the largest file of Fashion-MNIST has 26 million
CHUNK = 1 << 16
SCHEMES = ("https",)
STALL = 15.0  # seconds of silence after which a connection is given up
PAUSES = (0.0, 1.0, 2.0)  # seconds before each round of asking the mirrors


class _Failure(Exception):
    """A mirror did not deliver; `again` says whether asking it once more may help."""

    def __init__(self, reason: str, again: bool):
        super().__init__(reason)
        self.again = again


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to a scheme that is allowed, so that HTTPS stays HTTPS."""

    def redirect_request(self, request, file, code, message, headers, url):
        _require_scheme(url)
        return super().redirect_request(request, file, code, message, headers, url)


def fetch(target: Path, sha256: str, mirrors: Sequence[str]) -> None:
    """Download `mirror + target.name` to target, from the first mirror that has it with this hash.

    A mirror whose connection breaks, or that sends nothing for STALL seconds, is asked again in the next round and
    continues where it stopped. DataError when no mirror delivers; then target is untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent, wait=True), _part(target.with_name(f".{target.name}.part")) as part:
        if target.is_file() and file_hash(target) == sha256:
            return  # another process fetched it while this one waited for the lock
        if _hash(part) != sha256:
            _complete(part, target, sha256, mirrors)
        part.seek(0)
        files.write(target, part.read())
        part.truncate(0)


def _complete(part, target, sha256, mirrors):
    """Ask the mirrors in turn for what part lacks, until its hash is right; DataError if none delivers."""
    waiting, reasons = list(mirrors), {}
    for pause in PAUSES:
        if waiting:
            time.sleep(pause)
        for mirror in list(waiting):
            try:
                return _receive(mirror + target.name, part, sha256)
            except _Failure as failure:
                reasons[mirror] = str(failure)
                if not failure.again:
                    waiting.remove(mirror)
    told = "; ".join(f"{urlsplit(mirror).netloc} {reason}" for mirror, reason in reasons.items())
    raise DataError(
        f"{target.name} could not be downloaded ({told}); check the connection and try again, "
        f"or put the file into {target.parent.name}/ in a folder that INKLING_DATA names"
    )


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return _hash(file)


def _hash(file):
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """The part file, open for reading and appending; removed afterwards if it is empty."""
    files.require_plain(path)  # a link would be followed
    try:
        with open(path, "a+b") as part:
            yield part
    finally:
        if path.exists() and not path.stat().st_size:
            path.unlink()


def _receive(url, part, sha256):
    """Append to part what it lacks of the file; _Failure unless its hash is right then."""
    _require_scheme(url)
    offset = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "inkling", "Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    with _network(part):
        response = urllib.request.build_opener(_SameSchemes).open(request, timeout=STALL)
    with response:
        continued = response.status == 206
        if continued and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise _Failure("answered with another part of the file", again=False)
        if not continued:
            offset = 0
            part.truncate(0)
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() and len(length) < 16 else None
        size = offset
        with tqdm(desc=url.rpartition("/")[2], initial=offset, total=total, unit="B", unit_scale=True, disable=None,
                  leave=False) as bar:  # fmt: skip
            for chunk in _chunks(response, part):
                size += len(chunk)
                if size > LIMIT:
                    part.truncate(0)
                    raise _Failure(f"sent more than {LIMIT:,} bytes", again=False)
                with files.naming(part.name):
                    part.write(chunk)
                    part.flush()
                bar.update(len(chunk))
    if total is not None and size < total:
        raise _Failure(f"broke off after {size:,} of {total:,} bytes", again=True)
    if _hash(part) != sha256:
        part.truncate(0)  # what was continued may have come from another mirror, so try again
        raise _Failure("sent a file with the wrong SHA-256", again=continued)


def _chunks(response, part):
    while True:
        with _network(part):
            chunk = response.read1(CHUNK)
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _network(part):
    """Turns every error of the network into a _Failure."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is no such rest: what we have is not a beginning of this file
            part.truncate(0)
        raise _Failure(f"answered {error.code}", again=error.code in (408, 416, 429) or error.code >= 500) from error
    except TimeoutError as error:
        raise _Failure("fell silent", again=True) from error
    except urllib.error.URLError as error:
        again = isinstance(error.reason, (TimeoutError, ConnectionResetError))
        raise _Failure(f"cannot be reached: {error.reason}", again) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(f"broke off: {error or type(error).__name__}", again=True) from error
    except ValueError as error:
        raise _Failure(f"answered nonsense: {error}", again=False) from error


def _require_scheme(url):
    if urlsplit(url).scheme not in SCHEMES:
        raise _Failure(f"is not served over {' or '.join(SCHEMES)}", again=False)
