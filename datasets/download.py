"""Fetching a published file once, safely: over HTTPS, checked by hash, put in place in one move.

Two processes that want the same file take turns by a lock on its folder.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
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
    """A mirror did not deliver."""


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to a scheme that is allowed, so that HTTPS stays HTTPS."""

    def redirect_request(self, request, file, code, message, headers, url):
        _require_scheme(url)
        return super().redirect_request(request, file, code, message, headers, url)


def fetch(target: Path, sha256: str, mirrors: Sequence[str]) -> None:
    """Download `mirror + target.name` to target, from the first mirror that has it with this hash.

    If none delivers, all are asked again after a pause. DataError after the last round; then target is untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent, wait=True):
        if target.is_file() and file_hash(target) == sha256:
            return  # another process fetched it while this one waited for the lock
        files.write(target, _from_any(mirrors, target, sha256))


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _from_any(mirrors, target, sha256):
    """The file's bytes; DataError, with what each mirror did, if none has them."""
    reasons = {}
    for pause in PAUSES:
        time.sleep(pause)
        for mirror in mirrors:
            try:
                content = _receive(mirror + target.name)
                if hashlib.sha256(content).hexdigest() == sha256:
                    return content
                reasons[mirror] = "sent a file with the wrong SHA-256"
            except _Failure as failure:
                reasons[mirror] = str(failure)
            except urllib.error.HTTPError as error:
                error.close()
                reasons[mirror] = f"answered {error.code}"
            except TimeoutError:
                reasons[mirror] = "fell silent"
            except urllib.error.URLError as error:
                reasons[mirror] = f"cannot be reached: {error.reason}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                reasons[mirror] = f"broke off: {error or type(error).__name__}"
    told = "; ".join(f"{urlsplit(mirror).netloc} {reason}" for mirror, reason in reasons.items())
    raise DataError(
        f"{target.name} could not be downloaded ({told}); check the connection and try again, "
        f"or put the file into {target.parent.name}/ in a folder that INKLING_DATA names"
    )


def _receive(url):
    """What is at this address, at most LIMIT bytes."""
    _require_scheme(url)
    request = urllib.request.Request(url, headers={"User-Agent": "inkling", "Accept-Encoding": "identity"})
    content = bytearray()
    with urllib.request.build_opener(_SameSchemes).open(request, timeout=STALL) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() and len(length) < 16 else None
        name = url.rpartition("/")[2]
        with tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            while chunk := response.read1(CHUNK):
                content += chunk
                bar.update(len(chunk))
                if len(content) > LIMIT:
                    raise _Failure(f"sent more than {LIMIT:,} bytes")
    if total is not None and len(content) < total:
        raise _Failure(f"broke off after {len(content):,} of {total:,} bytes")
    return bytes(content)


def _require_scheme(url):
    if urlsplit(url).scheme not in SCHEMES:
        raise _Failure(f"is not served over {' or '.join(SCHEMES)}")
