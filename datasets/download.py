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


class _Failure(Exception):
    """One mirror failed; `again` says whether asking it once more may help. `code` is its HTTP status, if any."""

    def __init__(self, reason: str, again: bool, code: int = 0):
        super().__init__(reason)
        self.again, self.code = again, code


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to a scheme that is allowed, so that HTTPS stays HTTPS."""

    def __init__(self, schemes):
        self.schemes = schemes

    def redirect_request(self, request, file, code, message, headers, url):
        _require_scheme(url, self.schemes)
        return super().redirect_request(request, file, code, message, headers, url)


def fetch(
    target: Path,
    sha256: str,
    mirrors: Sequence[str],
    *,
    schemes: tuple[str, ...] = ("https",),
    stall: float = 15.0,
    rounds: int = 3,
    pause: float = 1.0,
) -> None:
    """Download `mirror + target.name` to target, from the first mirror that has it with this hash.

    A mirror that breaks off, or is silent for `stall` seconds, is asked again in the next of the `rounds`, after a
    pause that doubles, and continues where it stopped. DataError when no mirror delivers; then target is untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    opener = urllib.request.build_opener(_SameSchemes(schemes))
    with locked(target.parent, wait=True), _part(target.with_name(f".{target.name}.part")) as part:
        if target.is_file() and file_hash(target) == sha256:
            return  # another process fetched it while this one waited for the lock
        if _is_whole(part, sha256):
            return _deliver(part, target)  # left by a process that ended just before that
        waiting, reasons = list(mirrors), {}
        for attempt in range(rounds):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            for mirror in list(waiting):
                try:
                    _require_scheme(mirror, schemes)
                    continued = _receive(opener, mirror + target.name, part, stall)
                    if not _is_whole(part, sha256):
                        part.truncate(0)  # what was continued may have come from another mirror, so try again
                        raise _Failure("sent a file with the wrong SHA-256", again=continued)
                except _Failure as failure:
                    reasons[mirror] = str(failure)
                    if not failure.again:
                        waiting.remove(mirror)
                    continue
                return _deliver(part, target)
            if not waiting:
                break
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
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """The part file, open; removed afterwards if nothing is in it."""
    files.require_plain(path)  # a link would be followed
    try:
        with open(path, "a+b") as part:
            yield part
    finally:
        if path.exists() and not path.stat().st_size:
            path.unlink()


def _deliver(part: BinaryIO, target: Path) -> None:
    part.seek(0)
    files.write(target, part.read())
    part.truncate(0)


def _receive(opener, url, part, stall):
    """Append to part what it lacks of the file, to the end or _Failure; returns whether part was continued."""
    offset = part.seek(0, os.SEEK_END)
    headers = {"User-Agent": "inkling", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        with _network():
            response = opener.open(urllib.request.Request(url, headers=headers), timeout=stall)
    except _Failure as failure:
        if failure.code == 416:  # there is no such rest: what we have is not a beginning of this file
            part.truncate(0)
        raise
    with response:
        continued = response.status == 206
        if continued and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise _Failure("answered with another part of the file", again=False)
        if not continued:
            offset = 0
            part.truncate(0)
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() and len(length) < 16 else None
        _copy(response, part, offset, total, os.path.basename(url))
    return continued


def _copy(response, part, offset, total, name):
    with tqdm(desc=name, initial=offset, total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        size = offset
        while True:
            with _network():
                chunk = response.read1(CHUNK)
            if not chunk:
                break
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


def _is_whole(part, sha256):
    part.seek(0)
    return _hash(part) == sha256


@contextlib.contextmanager
def _network():
    """Whatever can go wrong between two machines, as a _Failure."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code in (408, 416, 429) or error.code >= 500
        raise _Failure(f"answered {error.code}", again, error.code) from error
    except TimeoutError as error:
        raise _Failure("fell silent", again=True) from error
    except urllib.error.URLError as error:
        again = isinstance(error.reason, (TimeoutError, ConnectionResetError))
        raise _Failure(f"cannot be reached: {error.reason}", again) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(f"broke off: {error or type(error).__name__}", again=True) from error
    except ValueError as error:
        raise _Failure(f"answered nonsense: {error}", again=False) from error


def _require_scheme(url, schemes):
    if urlsplit(url).scheme not in schemes:
        raise _Failure(f"is not served over {' or '.join(schemes)}", again=False)
