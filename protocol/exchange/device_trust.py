"""What a device believes: one authority, its registration key, and nobody else.

Everything that comes in is checked here before it changes anything. What does not check is noise:
somebody else's, garbled or forged, so it is passed over and never ends an exchange.
"""

from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol import c509
from protocol.cose import PublicKey
from protocol.errors import CertificateUnusable, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange.device_effects import Learn, Seen
from protocol.labels import Operation
from protocol.path import (
    Authority,
    is_as_issued,
    is_issued_by,
    verification_key,
    verify_authority,
    verify_leaf,
)
from protocol.problem import TEMPORARY, Problem
from protocol.profiles import Profile
from protocol.receipt import Receipt, read_verdict, signer_of
from protocol.signing import Signer
from protocol.validity import Clock
from protocol.voucher import Voucher, read_voucher


@dataclass(frozen=True, slots=True)
class Anchor:
    """Who a device is and whom it belongs to: pinned in the factory, or said by a later voucher."""

    device: str
    """The name that its tier 1 certificate proves."""
    root: c509.Certificate
    """The scheme's root."""
    authority: bytes
    """Key identifier of the owner's CA, 32 bytes."""
    epoch: int
    """Number of owners before this one."""
    voucher_keys: tuple[PublicKey, ...] = ()
    """The maker's, which may name the next owner whoever this one is."""


class UnknownRegistrar(Exception):
    """A verdict names a registration certificate that is not known yet: ask for `crts`."""


class Trust:
    """The authority that a device's voucher names, as far as its certificates are known.

    Args:
        anchor: Who and whose.
        seen: How new the newest chain was that this device has verified.
        chain: That chain as `crts` sent it; None before the first. It is verified again here, and one
            that no longer holds (expired, damaged) is as good as none.
        clock: What is known of the time now.
    """

    def __init__(self, anchor: Anchor, seen: Seen, chain: bytes | None, clock: Clock) -> None:
        self.anchor = anchor
        self._seen = seen
        self._authority: Authority | None = None
        if chain is not None:
            with suppress(MalformedMessage, RequestRejected):
                self.learn(chain, clock)

    def may_issue(self, label: str) -> bool:
        """Return whether an authority is known, and its path permits `label`."""
        return self._authority is not None and label in self._authority.labels

    @property
    def authority(self) -> Authority | None:
        """The verified authority; None where its certificates are not known."""
        return self._authority

    @property
    def public_key(self) -> PublicKey | None:
        """The authority's own key, which may name the next owner; None where it is not known."""
        return None if self._authority is None else self._authority.public_key

    def learn(self, chain: bytes, clock: Clock) -> Learn:
        """Take the chain that `crts` brought.

        Raises:
            MalformedMessage: Not a chain.
            RequestRejected: Not one of this authority under this root, or older than one seen before.
        """
        authority = self._verify(chain, clock)
        registration = authority.registration
        self._authority = authority
        self._seen = Seen(
            authority.latest_not_before,
            self._seen.registration if registration is None else registration.not_before,
        )
        return Learn(chain, self._seen)

    def _verify(self, chain: bytes, clock: Clock) -> Authority:
        authority = verify_authority(
            c509.decode_chain(chain),
            root=self.anchor.root,
            authority=self.anchor.authority,
            clock=clock.at_least(self._seen.chain),
        )
        registration = authority.registration
        if authority.latest_not_before < self._seen.chain or (
            registration is not None and registration.not_before < self._seen.registration
        ):
            raise RequestRejected(ProblemKind.SIGNER_SUPERSEDED, "an older chain than was seen before")
        return authority

    def check_certificate(
        self, encoded: bytes, profile: Profile, new_key: Signer, clock: Clock
    ) -> c509.Certificate:
        """Return the certificate in `encoded` if it is the one this device asked for.

        Raises:
            MalformedMessage: Not a certificate, or not in the encoding that thumbprints are taken of.
            RequestRejected: For another key, not by this authority, or not yet valid.
            CertificateUnusable: It is the one that the authority made for this key, with another name,
                expired, or not as the profile says.
        """
        if self._authority is None:
            raise RequestRejected(ProblemKind.UNEXPECTED, "no authority is known yet")
        certificate = c509.decode_certificate(encoded)
        if public_key_of(certificate) != new_key.public_key:
            raise RequestRejected(ProblemKind.BAD_KEY, "a certificate for another key")
        unusable: RequestRejected | None = None
        try:
            name = verify_leaf(certificate, self._authority, profile, clock.at_least(self._seen.chain))
            if name != self.anchor.device:
                unusable = RequestRejected(ProblemKind.WRONG_SUBJECT, "a certificate for another device")
        except RequestRejected as error:
            # What is not yet valid will be: the same answer comes again.
            if error.reason in TEMPORARY or not is_issued_by(certificate, self._authority.certificate):
                raise
            unusable = error
        # One certificate has several encodings, and its signature has a twin. Whoever is in the middle may
        # swap them, and then our thumbprint of it would be nobody else's.
        if not is_as_issued(certificate):
            raise MalformedMessage("another form of the certificate than its issuer made")
        if unusable is not None:
            raise CertificateUnusable(unusable.reason, str(unusable))
        return certificate

    def read_voucher(self, data: bytes) -> Voucher:
        """Return the voucher of a later owner, whom the maker or the present owner names.

        Epochs decide, no clock is asked: whoever's is wrong by years, the device finds its owner.

        Raises:
            MalformedMessage: Not a voucher.
            RequestRejected: By another key, for another device, or not of a later epoch.
        """
        keys = self.anchor.voucher_keys
        own = self.public_key
        if own is not None:
            keys = (*keys, own)
        return read_voucher(data, keys, device=self.anchor.device, lowest_epoch=self.anchor.epoch + 1)

    def read_verdict(self, data: bytes, *, request: bytes, label: str, op: Operation) -> Receipt | Problem:
        """Return what the authority says, in its own words, to `request`.

        Raises:
            UnknownRegistrar: Signed by a key whose certificate is not known yet.
            MalformedMessage: Not a verdict.
            RequestRejected: Not signed by the registration key, or about something else.
        """
        thumbprint = signer_of(data)
        registration = None if self._authority is None else self._authority.registration
        if registration is None or c509.thumbprint(registration.encoded) != thumbprint:
            raise UnknownRegistrar
        return read_verdict(
            data,
            verification_key(registration),
            request=request,
            authority=self.anchor.authority,
            label=label,
            op=op,
        )


def public_key_of(certificate: c509.Certificate) -> bytes:
    """Return a certificate's public key as `Signer.public_key` is: compressed point, or Ed25519's bytes.

    Raises:
        MalformedMessage: Not on its curve.
        RequestRejected: Not a key that can sign here.
    """
    key = verification_key(certificate)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
