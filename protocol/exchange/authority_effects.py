"""What an authority's exchange asks its driver to do, as values.

Three effects per request, so that a driver can take whole groups of requests through each step together:
look up, verify, then carry out. See `protocol.exchange.authority` for who returns what when.
"""

from dataclasses import dataclass

from protocol import c509
from protocol.cose import Algorithm
from protocol.exchange.facts import CertificateFacts, DeviceFacts, GrantFacts
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import Reply
from protocol.problem import Problem
from protocol.profiles import Profile
from protocol.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Ask:
    """What identifies one request; part of every effect that outlives the look-up."""

    authority: bytes
    """Key identifier of the issuing CA, 32 bytes."""
    label: str
    op: Operation
    digest: bytes
    """SHA-256 of the message, 32 bytes: what receipts and refusals name."""
    memory: bytes
    """SHA-256 of (label, op, message), 32 bytes: under which the answer is remembered."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Say what is known of all this; goes back as `Facts`."""

    ask: Ask
    thumbprint: bytes
    """c5t of the signer, also when it came by value."""
    key_hash: bytes | None = None
    """Of the new key, or (`skg`) of what stands for it; None for `conf` and `rev`."""
    bootstrap: tuple[bytes, str] | None = None
    """(maker, device name) of a signer that came by value, as far as its own words go."""
    target_thumbprint: bytes | None = None
    """First 8 bytes of the digest that `conf` names."""
    target_serial: bytes | None = None
    """What `rev` names."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Reply with this, unsigned: nothing about the request is authenticated."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Check:
    """One signature to verify."""

    algorithm: Algorithm
    public_key: bytes
    """SEC1 point or 32 bytes of an Ed25519 key; it may turn out to be no key at all."""
    signature: bytes
    signed_bytes: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify these; a later one only if those before it are good."""

    outer: Check
    signer: Check | None = None
    """The maker's signature in a certificate that came by value."""
    proof: Check | None = None
    """Possession of the new key; None where the answer will be no anyway, or there is no new key."""
    former: tuple[Check, ...] = ()
    """The outer signature as a device makes it that knows an earlier owner; only if `outer` is bad."""


@dataclass(frozen=True, slots=True)
class NewSigner:
    """A bootstrap certificate that came by value, was found good, and is to be recorded."""

    device: DeviceFacts
    label: str
    authority: bytes
    """Key identifier of the maker's CA."""
    certificate: c509.Certificate


@dataclass(frozen=True, slots=True)
class Issue:
    """Give the one certificate of this key: reserve, sign, record; report `Issued` or `Lost`."""

    ask: Ask
    profile: Profile
    signer: CertificateFacts | NewSigner
    public_key: bytes
    """SEC1 compressed point, or the 32 bytes of an Ed25519 key; on its curve."""
    algorithm: Algorithm
    key_hash: bytes
    activate_signer: bool = False
    """The signer is pending, and this is the first valid message of its key."""

    @property
    def device(self) -> DeviceFacts:
        """Whose certificate it will be."""
        return self.signer.device


@dataclass(frozen=True, slots=True)
class Generate:
    """Give the one package of this request; report `Packaged` or `Lost`.

    A key pair is made, certified and wrapped to the signer's key, and whoever vouches for it signs the whole.
    """

    ask: Ask
    profile: Profile
    signer: CertificateFacts | NewSigner
    grant: GrantFacts
    key_hash: bytes
    """Of what stands for the key (`authority_rules.nonce_hash`)."""
    activate_signer: bool = False
    """As in `Issue`."""

    @property
    def device(self) -> DeviceFacts:
        """Whose certificate it will be."""
        return self.signer.device

    @property
    def algorithm(self) -> Algorithm:
        """What the new key is used with: the same as the key that it is wrapped to."""
        return self.profile.algorithms[0]


@dataclass(frozen=True, slots=True)
class Confirm:
    """Make the target current, or void; report `Done` or `Lost`."""

    ask: Ask
    signer: CertificateFacts
    target: CertificateFacts
    status: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """Revoke the target; report `Done` or `Lost`."""

    ask: Ask
    signer: CertificateFacts
    target: CertificateFacts
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reply with this, signed by the registration key."""

    ask: Ask
    problem: Problem
    device: DeviceFacts | None
    signer: CertificateFacts | None
    alarm: str = ""
    """Why somebody should look at this device; empty: no reason."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Reply with this; nothing remains to be done."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificate is on disk."""

    encoded: bytes


@dataclass(frozen=True, slots=True)
class Packaged:
    """The certificate and its package are on disk."""

    package: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The change is on disk, and here is its receipt."""

    receipt: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """What the look-up found is no longer so: another request, or a person, was first."""

    problem: Problem


Outcome = Issued | Packaged | Done | Lost
Order = Issue | Generate | Confirm | Revoke


@dataclass(frozen=True, slots=True)
class Statement:
    """What the registration key is asked to sign."""

    ask: Ask
    verdict: Receipt | Problem
