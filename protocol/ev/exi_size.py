"""How long a part 2 package is as the EXI message that OCPP carries in base64: an upper bound, no codec.

`Get15118EVCertificate` has a field of fixed size for the whole CertificateInstallationRes. EXI, schema
informed and bit-packed, writes element names as a few bits and every value with its length in front, so
that the message is its values and little else:

    SignedInfo          4 references of (URI of the transform 35 + of the digest 39 + "#id1" 4 + digest 32),
                        canonicalisation 35, signature algorithm 51, markup 33                    = 559
    SignatureValue      64, and 2 for its length                                                  =  66
    session identifier 8, four identifiers "id1" 3 each, response code, retry counter, and the
                        event codes of header, body and the elements in them: at most             =  45
    each certificate    its DER, 2 for the length, 2 for its event codes and the list it is in    = n + 4
    encrypted key, DH public key, eMAID: their bytes; lengths and event codes are in the 45

Measured against the codec of the `iso15118` package: 10 to 20 bytes above the truth for one to three
certificates a chain (tests/interop/test_ev_iso15118.py). Values do not repeat by reference: the profile of
EXI that ISO 15118 uses has an empty value table.
"""

from dataclasses import dataclass
from typing import Final

from protocol.ev.installation import Edition, Installation

OCPP_2_0_1_REQUEST: Final = 5600
"""Characters of exiRequest in OCPP 2.0.1; what a station may also have given the answer."""
OCPP_2_0_1_RESPONSE: Final = 7500
"""Characters of exiResponse in OCPP 2.0.1."""
OCPP_2_1_REQUEST: Final = 11000
OCPP_2_1_RESPONSE: Final = 17000
"""Least that both sides have room for in OCPP 2.1."""

_SIGNATURE: Final = 559 + 66
_MARKUP: Final = 45
_CERTIFICATE: Final = 4


@dataclass(frozen=True, slots=True)
class ExiBound:
    """At most this long."""

    exi_bytes: int

    @property
    def base64_characters(self) -> int:
        """Characters of its base64, with padding."""
        return (self.exi_bytes + 2) // 3 * 4

    def fits(self, limit: int = OCPP_2_0_1_RESPONSE) -> bool:
        """Return whether the message surely fits a field of `limit` characters."""
        return self.base64_characters <= limit


def bound_exi(installation: Installation, cps_chain: tuple[bytes, ...]) -> ExiBound:
    """Return how long the package can be as a CertificateInstallationRes or CertificateUpdateRes.

    Two chains of three certificates of 800 bytes, the most that part 2 allows, are 7496 characters.

    Args:
        installation: Of part 2.
        cps_chain: DER.

    Raises:
        ValueError: An installation of part 20: its message has another shape, and was not measured.
    """
    if installation.edition is not Edition.PART_2:
        raise ValueError("only messages of part 2 are estimated")
    certificates = (*installation.contract_chain, *cps_chain)
    wrapped = installation.wrapped
    return ExiBound(
        _SIGNATURE
        + _MARKUP
        + sum(len(der) + _CERTIFICATE for der in certificates)
        + len(wrapped.encrypted)
        + len(wrapped.dh_public_key)
        + len(installation.name)
    )
