"""What a key store's files hold, as values; each file is replaced as a whole, so each is always consistent.

    state/trust          [1, voucher, authority, epoch, chain/null, seen, floor, crlNumber, at/null, wanted]
        seen             [notBefore of the CA certificates, notBefore of the registration certificate]
    state/<label>.keys   [1, floor, current/null, pending/null]
        current          [private key, certificate, epoch, counters reserved]
        pending          [private key, op, epoch, request, certificate/null]

Private keys are DER PKCS#8, encrypted if there is a passphrase. One that comes with its certificate is empty
until that is there; `op` is what is meant by the request, `sen` or `sren`, also where it travels as `skg`.
"""

from dataclasses import dataclass
from typing import Any, Final

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.exchange.device_effects import Seen
from protocol.labels import Operation
from protocol.message import MAX_COUNTER

VERSION: Final = 1
MAX_RECORD_BYTES: Final = 1 << 18
"""A chain is at most 64 KiB; the rest is small."""

_NOTHING_SEEN: Final = Seen()


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """Whom the device belongs to, and what it has seen of them."""

    voucher: bytes
    authority: bytes
    epoch: int
    chain: bytes | None = None
    seen: Seen = _NOTHING_SEEN
    floor: int = 0
    """The time is later than this, POSIX seconds."""
    crl_number: int = 0
    """Of the newest revocation list that was verified."""
    at: str | None = None
    """Where the owner's authority is, a URI; None: as configured."""
    wanted: tuple[str, ...] = ()
    """Labels that the owner before had given, and that this one was not yet asked for."""

    def encode(self) -> bytes:
        """Return the file's content."""
        seen = [self.seen.chain, self.seen.registration]
        owner = [self.voucher, self.authority, self.epoch]
        more = [self.at, list(self.wanted)]
        return cbor.encode([VERSION, *owner, self.chain, seen, self.floor, self.crl_number, *more])

    @classmethod
    def decode(cls, data: bytes) -> "TrustRecord":
        """Return the record in `data`; MalformedMessage if there is none."""
        match cbor.decode(data, max_bytes=MAX_RECORD_BYTES):
            case [
                1, bytes(voucher), bytes(authority), int(epoch), (bytes() | None) as chain,
                [int(chain_seen), int(registration_seen)], int(floor), int(crl_number), *more,
            ]:  # fmt: skip
                seen = Seen(chain_seen, registration_seen)
                at, wanted = _journey(more)
                return cls(voucher, authority, epoch, chain, seen, floor, crl_number, at, wanted)
            case _:
                raise MalformedMessage("not a trust record")


def _journey(items: list[Any]) -> tuple[str | None, tuple[str, ...]]:
    match items:
        case []:  # written before devices changed their owners
            return None, ()
        case [(str() | None) as at, list(wanted)] if all(type(label) is str for label in wanted):
            return at, tuple(wanted)
        case _:
            raise MalformedMessage("not a trust record")


@dataclass(frozen=True, slots=True)
class Current:
    """The credential in use."""

    key: bytes
    certificate: bytes
    epoch: int
    reserved: int = 0
    """No message counter at or above this one was ever used."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A credential on its way: requested, and from `certificate` on installed but not confirmed."""

    key: bytes
    op: Operation
    epoch: int
    request: bytes
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """What the device holds under one label."""

    floor: int = 0
    """Latest notBefore of the certificates that were here, POSIX seconds."""
    current: Current | None = None
    pending: Pending | None = None

    def encode(self) -> bytes:
        """Return the file's content."""
        current, pending = self.current, self.pending
        return cbor.encode(
            [
                VERSION,
                self.floor,
                None
                if current is None
                else [current.key, current.certificate, current.epoch, current.reserved],
                None
                if pending is None
                else [pending.key, pending.op.value, pending.epoch, pending.request, pending.certificate],
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "LabelRecord":
        """Return the record in `data`; MalformedMessage if there is none."""
        match cbor.decode(data, max_bytes=MAX_RECORD_BYTES):
            case [1, int(floor), current, pending]:
                return cls(floor, _current(current), _pending(pending))
            case _:
                raise MalformedMessage("not a record of a label")


def _current(item: Any) -> Current | None:  # noqa: ANN401 (a decoded item)
    match item:
        case None:
            return None
        case [bytes(key), bytes(certificate), int(epoch), int(reserved)] if 0 <= reserved <= MAX_COUNTER:
            return Current(key, certificate, epoch, reserved)
        case _:
            raise MalformedMessage("not a current credential")


def _pending(item: Any) -> Pending | None:  # noqa: ANN401 (a decoded item)
    match item:
        case None:
            return None
        case [
            bytes(key),
            ("sen" | "sren") as op,
            int(epoch),
            bytes(request),
            (bytes() | None) as certificate,
        ]:
            return Pending(key, Operation(op), epoch, request, certificate)
        case _:
            raise MalformedMessage("not a pending credential")
