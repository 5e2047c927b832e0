"""general-signing: an APDU that one DataSign key vouches for, whole.

    DF  transaction-id  originator-system-title  recipient-system-title  date-time  other-information
        content  signature

Seven A-XDR octet strings. The signature is r ‖ s, exactly 64 or 96 octets, over the length and the value of
each of the six before it.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.cose import is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.metering import axdr
from protocol.metering.agreement import MAX_TRANSACTION_ID_BYTES
from protocol.metering.suite import Suite
from protocol.metering.title import TITLE_BYTES, SystemTitle
from protocol.signing import Signer

TAG: Final = 0xDF
"""[223] in the ASN.1 of xDLMS APDUs."""
DATE_TIME_BYTES: Final = 12
"""A COSEM date-time; the field is that or empty."""
MAX_OTHER_INFORMATION_BYTES: Final = 128
"""More than any profile of ours says there."""
MAX_CONTENT_BYTES: Final = 4096
"""An ACTION with four signed keys of suite 2 is 800 octets, a certificate 600; a flood of memory is more."""
_SIGNATURE_BYTES: Final = (64, 96)


@dataclass(frozen=True, slots=True)
class GeneralSigning:
    """One envelope. `signature` is empty until it is signed."""

    transaction_id: bytes
    """Up to 16 octets, usually 8; a reply has its request's."""
    originator: SystemTitle
    recipient: SystemTitle
    content: bytes
    """The APDU that is vouched for."""
    date_time: bytes = b""
    """A COSEM date-time of 12 octets, or nothing."""
    other_information: bytes = b""
    signature: bytes = b""

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: length and value of every field but itself."""
        fields = (
            self.transaction_id,
            self.originator.octets,
            self.recipient.octets,
            self.date_time,
            self.other_information,
            self.content,
        )
        return b"".join(axdr.octets(field) for field in fields)

    def encode(self) -> bytes:
        """Return the APDU.

        Raises:
            ValueError: It is not signed yet, or a field is over its limit.
        """
        lengths_fit = (
            len(self.transaction_id) <= MAX_TRANSACTION_ID_BYTES
            and len(self.date_time) in (0, DATE_TIME_BYTES)
            and len(self.other_information) <= MAX_OTHER_INFORMATION_BYTES
            and len(self.content) <= MAX_CONTENT_BYTES
            and len(self.signature) in _SIGNATURE_BYTES
        )
        if not lengths_fit:
            raise ValueError("an envelope that nobody would take: not signed, or a field is over its limit")
        return bytes((TAG,)) + self.signed_bytes + axdr.octets(self.signature)


def decode(data: bytes) -> GeneralSigning:
    """Return the envelope that `data` is; its signature is not looked at.

    Returns:
        The envelope; `decode(data).encode() == data` for all that is taken.

    Raises:
        MalformedMessage: Not a general-signing APDU, a length that is indefinite or not the shortest, a
            field over its limit, or octets after the end. No other exception leaves this function.
    """
    reader = axdr.Reader(data)
    if reader.byte() != TAG:
        raise MalformedMessage("not a general-signing APDU")
    transaction_id = reader.octets(MAX_TRANSACTION_ID_BYTES)
    originator = SystemTitle(reader.octets(TITLE_BYTES))
    recipient = SystemTitle(reader.octets(TITLE_BYTES))
    date_time = reader.octets(DATE_TIME_BYTES)
    if len(date_time) not in (0, DATE_TIME_BYTES):
        raise MalformedMessage("a date-time has 12 octets")
    other_information = reader.octets(MAX_OTHER_INFORMATION_BYTES)
    content = reader.octets(MAX_CONTENT_BYTES)
    signature = reader.octets(max(_SIGNATURE_BYTES))
    if len(signature) not in _SIGNATURE_BYTES:
        raise MalformedMessage("a signature is r and s, 64 or 96 octets")
    reader.end()
    return GeneralSigning(
        transaction_id, originator, recipient, content, date_time, other_information, signature
    )


def sign(
    signer: Signer,
    *,
    transaction_id: bytes,
    originator: SystemTitle,
    recipient: SystemTitle,
    content: bytes,
    date_time: bytes = b"",
    other_information: bytes = b"",
) -> GeneralSigning:
    """Return the signed envelope of `content`.

    Args:
        signer: The originator's DataSign key.
        transaction_id: Up to 16 octets.
        originator: Whose key it is.
        recipient: Whom it is for.
        content: At most 4096 octets.
        date_time: 12 octets or none.
        other_information: At most 128 octets.
    """
    bare = GeneralSigning(transaction_id, originator, recipient, content, date_time, other_information)
    signature = signer.sign(bare.signed_bytes)
    return GeneralSigning(
        transaction_id, originator, recipient, content, date_time, other_information, signature
    )


def verify(suite: Suite, envelope: GeneralSigning, key: ec.EllipticCurvePublicKey) -> None:
    """Return if the DataSign key `key` signed all of `envelope`.

    Whether it is the originator's key is the caller's to know.

    Raises:
        RequestRejected: BAD_SIGNATURE.
    """
    if not is_signature_valid(key, suite.algorithm, envelope.signature, envelope.signed_bytes):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the envelope is not signed by its originator")
