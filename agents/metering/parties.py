"""Who talks to whom about metering keys, and how either knows the other.

A certificate for a meter's signature and one for a client's look the same: what tells them apart is the name.
A meter is told its head-end's title when it is set up, and the authority, which knows what it issued, lets
letters go between meters and clients alone (`agents.metering.mailbox`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from agents.devices.agent import DeviceError
from agents.devices.bearer import Bearer
from agents.devices.identity import Identity
from protocol import c509
from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.metering.agreement import GREEN_BOOK, KdfSettings
from protocol.metering.mail import Letter
from protocol.metering.rollover import Pairing
from protocol.metering.suite import SUITE_1, SUITE_2, Suite
from protocol.metering.title import SystemTitle
from protocol.path import Authority, verification_key, verify_leaf
from protocol.profiles import profile_of
from protocol.signing import Signer
from protocol.validity import Clock


@dataclass(frozen=True, slots=True)
class Party:
    """One side, by its tier 1 label."""

    bootstrap: str
    domain: Domain
    suite: Suite
    is_meter: bool
    signature: str
    """Label of the certificate that signs."""
    agreement: str
    """Label of the certificate that agrees on keys."""
    peer: str
    """Tier 1 label of the other side."""


def _pair(domain: Domain, suite: Suite, mark: str) -> tuple[Party, Party]:
    meter, client = f"meter{mark}", f"client{mark}"
    return (
        Party(f"{meter}-boot", domain, suite, True, f"{meter}-ds", f"{meter}-ka", f"{client}-boot"),
        Party(f"{client}-boot", domain, suite, False, f"{client}-ds", f"{client}-ka", f"{meter}-boot"),
    )


PARTIES: Final[Mapping[str, Party]] = MappingProxyType(
    {
        party.bootstrap: party
        for party in (*_pair(Domain.METERING, SUITE_1, ""), *_pair(Domain.METERING2, SUITE_2, "2"))
    }
)
"""By tier 1 label."""
BY_SIGNATURE: Final[Mapping[str, Party]] = MappingProxyType(
    {party.signature: party for party in PARTIES.values()}
)
"""By the label that signs letters."""


def party_of(identity: Identity, *, is_meter: bool) -> Party:
    """Return which side a device is on.

    Raises:
        DeviceError: On the other one, or on none.
    """
    party = PARTIES.get(identity.label)
    if party is None or party.is_meter is not is_meter:
        wanted = ", ".join(label for label, one in PARTIES.items() if one.is_meter is is_meter)
        kind = "meter" if is_meter else "head-end"
        raise DeviceError(
            f"{identity.device} is no {kind}: its identity is {identity.label}, a {kind}'s {wanted}"
        )
    return party


@dataclass(frozen=True, slots=True)
class Own:
    """What one side has to show, and what it believes, as of now."""

    party: Party
    title: SystemTitle
    signer: Signer
    agreement_key: ec.EllipticCurvePrivateKey
    signature_certificate: bytes
    agreement_certificate: bytes
    authority: Authority
    clock: Clock

    @classmethod
    def of(cls, bearer: Bearer, party: Party, name: str) -> "Own":
        """Return it; blocks as the key store does.

        Raises:
            DeviceError: A certificate is missing: enroll first.
        """
        signature, agreement = bearer.credential(party.signature), bearer.credential(party.agreement)
        return cls(
            party,
            SystemTitle.of_name(name),
            signature.signer,
            bearer.agreement_key(party.agreement),
            signature.certificate,
            agreement.certificate,
            bearer.authority(),
            bearer.clock(),
        )

    def letter(self, envelope: bytes | None = None) -> bytes:
        """Return a letter of one's own."""
        return Letter(self.signature_certificate, self.agreement_certificate, envelope).encode()

    def pairing(self, peer: "Peer", settings: KdfSettings = GREEN_BOOK) -> Pairing:
        """Return both sides of a rollover."""
        return Pairing(self.party.suite, self.title, self.signer, peer.title, peer.key, settings)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side, whose certificates were verified."""

    title: SystemTitle
    key: ec.EllipticCurvePublicKey
    """Its signature key."""
    agreement_key: ec.EllipticCurvePublicKey


def read_peer(letter: Letter, title: SystemTitle, own: Own, revoked: Collection[bytes]) -> Peer:
    """Return who wrote a letter, if the owner of both sides vouches for both certificates of it.

    Args:
        letter: As it came.
        title: Whose it has to be.
        own: Whose authority has to have issued the certificates.
        revoked: Serial numbers on that authority's revocation list.

    Raises:
        RequestRejected: Another issuer, name, profile or time, or revoked.
        MalformedMessage: Not certificates.
    """
    peer = PARTIES[own.party.peer]
    keys: list[ec.EllipticCurvePublicKey] = []
    both = ((letter.signature_certificate, peer.signature), (letter.agreement_certificate, peer.agreement))
    for encoded, label in both:
        certificate = c509.decode_certificate(encoded)
        name = verify_leaf(certificate, own.authority, profile_of(label), own.clock)
        if SystemTitle.of_name(name) != title:
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, f"a certificate of {name}, not of {title}")
        if certificate.serial in revoked:
            raise RequestRejected(ProblemKind.SIGNER_REVOKED, f"the {label} certificate of {name} is revoked")
        key = verification_key(certificate)
        assert isinstance(key, ec.EllipticCurvePublicKey)  # the profiles of these labels have no other
        keys.append(key)
    return Peer(title, keys[0], keys[1])
