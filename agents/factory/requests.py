"""Orders from certification requests: keys that were made in the devices and never leave them.

A folder has one request a file, PKCS#10 (PEM or DER) or C509. The profile decides what the certificate says;
a request only brings a key, the proof that somebody holds it, and perhaps a name.

| a request's name is | if |
|---|---|
| in the CSV file's row that names its file (columns `device`, `request`) | there is such a CSV file |
| its subject: a lone common name, or what the label's certificates have  | the subject is not empty |
| the file's name, without its ending                                     | it is                    |

Where several of these say a name, they say the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.factory.maker import Maker
from agents.factory.order import (
    COLUMNS,
    MAX_BATCH,
    FactoryError,
    Item,
    Order,
    digest_of,
    repeated,
    tier_one,
    wrong_name,
)
from agents.factory.sheet import Column, Row, SheetError, Wrong, read_sheet
from agents.inspect.armour import as_text, is_pem, pem_blocks
from agents.inspect.finding import NotRecognised
from protocol import c509, cbor
from protocol.cose import Algorithm, PublicKey, is_signature_valid
from protocol.end_entity import subject_of
from protocol.errors import EnrollmentError, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS, algorithm_of_request
from protocol.path import verification_key
from protocol.profiles import Profile

MAX_REQUEST_BYTES: Final = 16 * 1024
_HASHES: Final[Mapping[object, hashes.HashAlgorithm]] = {
    SIGNATURE_ALGORITHMS[Algorithm.ES256]: hashes.SHA256(),
    SIGNATURE_ALGORITHMS[Algorithm.ES384]: hashes.SHA384(),
    SIGNATURE_ALGORITHMS[Algorithm.ES512]: hashes.SHA512(),
}
_COLUMNS: Final = COLUMNS | {"request": Column(255)}


@dataclass(frozen=True, slots=True)
class _Request:
    """One request whose proof is good."""

    key: bytes
    """Uncompressed SEC1 point."""
    name: str | None
    """What its subject says."""


def from_requests(maker: Maker, label: str, folder: Path, sheet: bytes | None = None) -> Order:
    """Return the order in a folder of requests, with what is wrong in it.

    Args:
        maker: Whose devices.
        label: Tier 1.
        folder: Every file in it is a request; hidden ones are passed over.
        sheet: CSV with `device` and `request` (a file's name), and remarks; None: requests name themselves.

    Raises:
        FactoryError: The folder or the CSV file as a whole cannot be used.
        OSError: A file cannot be read.
    """
    profile = tier_one(label)
    if not folder.is_dir():
        raise FactoryError(f"{folder}: is no folder of requests")
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    if not files:
        raise FactoryError(f"{folder}: has no requests")
    if len(files) > MAX_BATCH:
        raise FactoryError(f"{folder}: more than {MAX_BATCH} requests; split it")
    rows, wrong = _rows(sheet)
    desk = _Desk(maker, profile)
    items: list[Item] = []
    where: list[str] = []
    content = hashlib.sha256(sheet or b"")
    for path in files:
        with path.open("rb") as file:
            data = file.read(MAX_REQUEST_BYTES + 1)
        content.update(cbor.encode([path.name, hashlib.sha256(data).digest()]))
        row = None if rows is None else rows.pop(path.name, None)
        if rows is not None and row is None:
            wrong.append(Wrong(path.name, "", "no row of the CSV file names it"))
            continue
        found = desk.look_at(path, data, row)
        if isinstance(found, Wrong):
            wrong.append(found)
        else:
            items.append(found)
            where.append(path.name)
    for name, row in (rows or {}).items():
        wrong.append(Wrong(row.where, row.cells.get("device", ""), f"there is no file {name!r}"))
    digest = digest_of(maker, label, "requests", content.digest())
    return Order(label, f"requests in {folder.name}", digest, items, tuple(wrong), where)


class _Desk:
    """Looks at one request after the other, and remembers which names and keys there were."""

    def __init__(self, maker: Maker, profile: Profile) -> None:
        self._maker = maker
        self._profile = profile
        self._names: dict[str, str] = {}
        self._keys: dict[bytes, str] = {}

    def look_at(self, path: Path, data: bytes, row: Row | None) -> Item | Wrong:
        """Return the device that a request is for, or what is wrong."""
        cells = {} if row is None else row.cells
        try:
            request = _read(data, self._maker, self._profile)
            name = _name(path, request, cells.get("device", ""))
        except RequestRejected as error:
            return Wrong(path.name, cells.get("device", ""), error.detail)
        except EnrollmentError as error:
            return Wrong(path.name, cells.get("device", ""), str(error))
        reason = wrong_name(self._maker, self._profile, name)
        if reason is None:
            reason = repeated(name, path.name, self._names)
        if reason is None:
            first = self._keys.setdefault(request.key, path.name)
            reason = None if first == path.name else f"the same key as {first}"
        if reason is not None:
            return Wrong(path.name, name, reason)
        return Item(name, request.key, cells.get("serial", ""), cells.get("client", ""))


def _rows(sheet: bytes | None) -> tuple[dict[str, Row] | None, list[Wrong]]:
    """Return the rows by the file that they name, and the wrong ones."""
    if sheet is None:
        return None, []
    rows: dict[str, Row] = {}
    wrong: list[Wrong] = []
    try:
        for row in read_sheet(sheet, _COLUMNS):
            if isinstance(row, Wrong):
                wrong.append(row)
                continue
            name = row.cells.get("request")
            if name is None:
                raise SheetError("a column request names the files")  # noqa: TRY301 (one way out)
            if name in rows:
                wrong.append(
                    Wrong(row.where, row.cells.get("device", ""), f"the same file as {rows[name].where}")
                )
            else:
                rows[name] = row
    except SheetError as error:
        raise FactoryError(f"CSV: {error}") from None
    return rows, wrong


def _read(data: bytes, maker: Maker, profile: Profile) -> _Request:
    """Return a request, if its proof is good and its key one of the label's; EnrollmentError if not."""
    request = _decode(data)
    if request.public_key_algorithm not in {KEY_ALGORITHMS[one] for one in profile.algorithms}:
        wanted = ", ".join(algorithm.name for algorithm in profile.algorithms)
        raise RequestRejected(
            ProblemKind.BAD_KEY, f"its key is not for {wanted}, which {profile.label} asks for"
        )
    key = request.load_public_key()
    assert isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))
    if not _proves(request, key):
        raise RequestRejected(
            ProblemKind.PROOF_FAILED, "its signature is not by its key: nobody proves to hold it"
        )
    if key == verification_key(maker.authority.certificate):
        raise RequestRejected(ProblemKind.KEY_USED, "its key is the maker's own")
    return _Request(point_of(key), _subject(request, maker, profile))


def _proves(request: c509.CertificationRequest, key: PublicKey) -> bool:
    """Return whether a request's own key signed it, with any hash: tools take SHA-256 for every curve."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        algorithm = algorithm_of_request(request)
        return is_signature_valid(key, algorithm, request.signature, request.signed_bytes)
    name = _HASHES.get(request.signature_algorithm)
    if name is None:
        return False
    try:
        key.verify(request.signature_der, request.signed_bytes, ec.ECDSA(name))
    except InvalidSignature:
        return False
    return True


def point_of(key: PublicKey) -> bytes:
    """Return an uncompressed SEC1 point, or the 32 bytes of an Ed25519 key."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _decode(data: bytes) -> c509.CertificationRequest:
    if len(data) > MAX_REQUEST_BYTES:
        raise MalformedMessage(f"longer than {MAX_REQUEST_BYTES} bytes")
    text = as_text(data)
    if text is not None and is_pem(text):
        data = _from_pem(text)
    if data[:1] != b"\x30":
        return c509.decode_request(data)
    try:
        return c509.request_from_der(data)
    except c509.NotConvertible as error:
        raise MalformedMessage(f"no certification request: {error}") from None


def _from_pem(text: str) -> bytes:
    try:
        blocks = list(pem_blocks(text))
    except NotRecognised as error:
        raise MalformedMessage(str(error)) from None
    if any("PRIVATE KEY" in block.label for block in blocks):
        raise RequestRejected(
            ProblemKind.BAD_KEY, "a private key is in it: it was to stay in the device, and is to be replaced"
        )
    found = [block.data for block in blocks if block.label.endswith("CERTIFICATE REQUEST") and block.data]
    if len(found) != 1:
        raise MalformedMessage(f"{len(found)} certification requests in one file")
    return found[0]


def _subject(request: c509.CertificationRequest, maker: Maker, profile: Profile) -> str | None:
    """Return the name in a request's subject, None if it is empty.

    Raises:
        RequestRejected: It says anything else than the label's certificates do.
    """
    subject = request.subject
    if not subject.attributes:
        return None
    name = subject.cn
    if name is not None and not profile.subject.is_alternative:
        wanted = subject_of(profile, name, maker.authority.certificate.subject)
        if _plain(subject) in (_plain(wanted), [(1, name)]):
            return name
    raise RequestRejected(
        ProblemKind.WRONG_SUBJECT,
        f"its subject {subject} is not what {profile.label} has: a common name alone, or nothing, will do",
    )


def _plain(name: c509.Name) -> list[tuple[int | bytes, str | bytes]]:
    """Return a name's attributes in one order, whichever string types they have."""
    return sorted(
        ((abs(kind) if isinstance(kind, int) else kind, value) for kind, value in name.attributes), key=repr
    )


def _name(path: Path, request: _Request, listed: str) -> str:
    """Return the name that all agree on; RequestRejected if they do not."""
    told = [name for name in (listed, request.name) if name]
    if not told:
        return path.stem
    if len(set(told)) > 1:
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT, f"the CSV file calls it {told[0]!r}, its subject {told[1]!r}"
        )
    return told[0]
