"""What the device's machines ask of their driver, and what they are given.

Effects are done in the order in which they come, each finished before the next: what `Save` and
`Install` name is on disk before the `Send` behind them leaves the device.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import EnrollmentError
from protocol.ports import Outbound
from protocol.signing import Signer
from protocol.voucher import Voucher


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that can sign, and the certificate that says whose it is."""

    signer: Signer
    certificate: bytes
    """One C509 certificate, encoded as the authority knows it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How new the CA certificates are that a device has verified; it never takes older ones."""

    chain: int = 0
    """Latest notBefore of the CA certificates, POSIX seconds."""
    registration: int = 0
    """notBefore of the registration certificate, POSIX seconds."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Store the authority's chain: it was verified up to the pinned root."""

    chain: bytes
    """COSE_C509 as `crts` sent it."""
    seen: Seen


@dataclass(frozen=True, slots=True)
class LearnRevocations:
    """Store how new the authority's revocation list was: it was verified."""

    number: int
    """crlNumber; an older list is never taken again."""
    this_update: int
    """POSIX seconds: it is later than this."""


@dataclass(frozen=True, slots=True)
class TakeVoucher:
    """Store who owns the device now, and forget what the owner before gave: it was verified."""

    voucher: Voucher
    at: str | None
    """Where the new owner's authority is, a URI; None: where the one before was, or as configured."""


@dataclass(frozen=True, slots=True)
class Save:
    """Store the request, together with the new private key."""

    request: bytes


@dataclass(frozen=True, slots=True)
class Install:
    """Store the new certificate: verified, but pending until the authority has confirmed it."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class InstallKey:
    """Store a certificate together with the key that came with it: verified, but pending as in `Install`."""

    certificate: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the pending certificate the current one; only now may the old key go."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the pending key, request and certificate: the authority said no for good."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the certificate that was given back, and its key."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; whatever was sent before is no longer waited for."""

    request: Outbound


@dataclass(frozen=True, slots=True)
class Done:
    """It is over, well."""


@dataclass(frozen=True, slots=True)
class Fail:
    """It is over, badly: `RequestRejected` by the authority, `CertificateUnusable`, or `ExchangeTimeout`."""

    error: EnrollmentError


Effect = (
    Learn
    | LearnRevocations
    | TakeVoucher
    | Save
    | Install
    | InstallKey
    | Promote
    | Discard
    | Drop
    | Send
    | Done
    | Fail
)
Effects = tuple[Effect, ...]
