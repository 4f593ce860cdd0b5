"""Named arrays and metadata in one file, written whole or not at all, and checked when read.

A checkpoint is an `.npz`: a zip of `.npy` members, which `np.load` opens too, and one `inkling.json` with the format's
version and the metadata. Nothing in it can run code: no pickle, no object arrays. The reader allocates memory only
after it has checked the sizes that the file claims against its real size.
"""

import contextlib
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from disk import files
from disk.lock import locked

FORMAT = 2
MAX_BYTES = 2**32 - 1  # of the whole file: a plain zip, without the 64-bit extension
MAX_DIRECTORY = 4 << 20
MAX_META = 4 << 20
MOST_SHRUNK = 4  # times that the members may be larger than the file, where they are compressed
META = "inkling.json"

_END = struct.Struct("<4s4H2LH")  # the zip's last record: signature, disks, counts, directory size, offset, comment


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used, in one sentence for the user."""


def save(path: str | os.PathLike, arrays: dict[str, np.ndarray], meta: dict, *, compressed: bool = False) -> None:
    """Write `arrays` and the JSON-able `meta` to `path`, atomically.

    Weights in full precision hardly shrink when `compressed`; those of few digits do.
    At every moment `path` holds the old file or the new one, whole; also after a crash or a power cut.
    Raises CheckpointError where it cannot be written (a full disk, a read-only folder); the old file is intact then.
    """
    try:
        with files.replacing(path) as file:
            _write(file, arrays, meta, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    except OSError as error:
        raise CheckpointError(f"Cannot save {path}: {error.strerror}; what was saved before is intact.") from error


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """What `save` wrote: arrays by name, and the metadata.

    Raises CheckpointError for a file that is missing, truncated, damaged, foreign, of another format version, or that
    claims to hold more than its size allows.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a file, so not a checkpoint.")
        with open(path, "rb") as file:
            return _read(file)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path}: train one first, or check the path.") from None
    except OSError as error:
        raise CheckpointError(f"Cannot read the checkpoint {path}: {error.strerror or error}.") from error


def begins(path: str | os.PathLike) -> bool:
    """Whether the plain file `path` begins as a checkpoint does; its rest may be damaged."""
    try:
        with open(path, "rb") as file:
            start = file.read(30 + len(META))
    except OSError:
        return False
    return start.startswith(b"PK\x03\x04") and start.endswith(META.encode())  # the name of the zip's first member


@contextlib.contextmanager
def lock(folder: str | os.PathLike) -> Iterator[None]:
    """Hold `folder` (made if need be) for one run; a second one gets a CheckpointError at once.

    What a process that was killed an hour ago left half-written there is cleared away.
    """
    with contextlib.ExitStack() as stack:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            files.clear(folder)
        except BlockingIOError:
            busy = f"Another run is writing into {folder}: wait until it ends, or choose another folder."
            raise CheckpointError(busy) from None
        except OSError as error:
            raise CheckpointError(f"Cannot write into the folder {folder}: {error.strerror or error}.") from error
        yield


def _require_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CheckpointError(f"The array {name!r} holds NaN or infinity: use an earlier copy, or train again.")


# ---- writing


def _write(file: BinaryIO, arrays: dict[str, np.ndarray], meta: dict, compression: int) -> None:
    text = json.dumps({"format": FORMAT, "arrays": list(arrays), "meta": meta}).encode()
    if len(text) > MAX_META:
        raise CheckpointError(f"The metadata takes {len(text)} bytes, more than the {MAX_META} that a reader accepts.")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        archive.writestr(zipfile.ZipInfo(META), text)
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            if array.dtype.kind not in "biuf":
                raise CheckpointError(f"The array {name!r} has dtype {array.dtype}; only numbers can be saved.")
            _require_finite(name, array)
            try:
                info = zipfile.ZipInfo(f"{name}.npy")
                info.compress_type = compression
                with archive.open(info, "w") as member:
                    np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            except (zipfile.LargeZipFile, RuntimeError) as error:
                raise CheckpointError(f"The arrays take more than the {MAX_BYTES} bytes of one checkpoint.") from error
        held = sum(info.file_size for info in archive.infolist())
    if held > MOST_SHRUNK * file.tell():
        raise CheckpointError("The arrays shrink more than a reader accepts; they can be saved uncompressed.")


# ---- reading


def _read(file: BinaryIO) -> tuple[dict[str, np.ndarray], dict]:
    size = os.fstat(file.fileno()).st_size
    _check_end(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            members = _check_members(archive.infolist(), size)
            names, meta = _read_meta(archive, members)
            if [META, *(f"{name}.npy" for name in names)] != list(members):
                raise CheckpointError("the file is damaged: it holds other arrays than it lists.")
            arrays = {name: _read_array(archive, members[f"{name}.npy"]) for name in names}
            for name, array in arrays.items():
                _require_finite(name, array)
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError,
            struct.error, zlib.error, OverflowError, LookupError, OSError, SyntaxError, TokenError,
            RecursionError) as error:
        # all that zipfile and NumPy are known to raise on bytes that are no zip, and on headers of no array
        raise CheckpointError("the file is damaged or cut short; use an earlier copy, or train anew.") from error
    return arrays, meta


def _check_end(file: BinaryIO, size: int) -> None:
    """Look at the zip's last record by hand, since zipfile reads a directory of whatever size it claims."""
    if size < _END.size or size > MAX_BYTES:
        raise CheckpointError(f"a file of {size} bytes is not an Inkling checkpoint, or one cut short.")
    tail = min(size, _END.size + 20)  # where the 64-bit extension would stand
    file.seek(-tail, os.SEEK_END)
    end = file.read(tail)
    signature, _, _, _, entries, directory, offset, comment = _END.unpack(end[-_END.size :])
    if signature != b"PK\x05\x06":
        raise CheckpointError("not an Inkling checkpoint, or one cut short.")
    if end.startswith(b"PK\x06\x07") or comment or directory > MAX_DIRECTORY or offset + directory + _END.size != size:
        raise CheckpointError("not an Inkling checkpoint: its table of contents is not one that Inkling writes.")


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    members = {info.filename: info for info in infos}
    if META not in members:
        raise CheckpointError(f"not an Inkling checkpoint (it has no {META}).")
    if members[META].compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"not an Inkling checkpoint: its {META} is compressed.")
    if len(members) != len(infos):
        raise CheckpointError("the file is damaged: it names the same array twice.")
    for info in infos:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise CheckpointError(f"{info.filename} is encrypted, or compressed in a way that Inkling never uses.")
    if sum(info.file_size for info in infos) > MOST_SHRUNK * size:
        raise CheckpointError(f"its members claim more bytes than a file of {size} can hold.")
    return members


def _read_meta(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> tuple[list[str], dict]:
    """The names of the arrays and the metadata, both from one member whose CRC has been checked."""
    if members[META].file_size > MAX_META:
        raise CheckpointError(f"its metadata claims {members[META].file_size} bytes, more than {MAX_META}.")
    try:
        document = json.loads(archive.read(members[META]))
    except RecursionError:
        document = None
    if not isinstance(document, dict) or "format" not in document:
        raise CheckpointError("not an Inkling checkpoint: its metadata names no format.")
    if document["format"] != FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {document['format']!r:.20}, this Inkling reads {FORMAT}: use the version that "
            "wrote it, or train again in another folder."
        )
    names, meta = document.get("arrays"), document.get("meta")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or not isinstance(meta, dict):
        raise CheckpointError("the file is damaged: its metadata is incomplete.")
    return names, meta


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise CheckpointError(f"{info.filename} is not an array of the kind that Inkling writes.")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if fortran or dtype.kind not in "biuf" or dtype != dtype.newbyteorder("<") or min(shape, default=0) < 0:
            raise CheckpointError(f"{info.filename} holds no plain numbers: its header is not one that Inkling writes.")
        claimed, held = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        if claimed != held:
            raise CheckpointError(f"{info.filename} claims shape {shape}, {claimed} bytes, but holds {held}.")
        # No more is inflated than that; zipfile checks the CRC at the member's end, and raises where a bit has flipped.
        content = member.read(held)
    if len(content) != claimed:
        raise EOFError
    return np.frombuffer(bytearray(content), dtype).reshape(shape)
