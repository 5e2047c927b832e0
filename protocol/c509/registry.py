"""The C509 registries: small integers for object identifiers (draft-ietf-cose-cbor-encoded-cert §9).

A number is what goes on the wire; an object identifier (its octets, as in RFC 9090) stands wherever no
number is registered.
"""

from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from protocol.c509.der import oid_from_text


class Table(NamedTuple):
    """One registry, both ways."""

    oids: dict[int, bytes]
    numbers: dict[bytes, int]


def _table(entries: dict[int, str]) -> Table:
    oids = {int(number): oid_from_text(oid) for number, oid in entries.items()}
    return Table(oids, {oid: number for number, oid in oids.items()})


class AttributeType(IntEnum):
    """Attributes of a name."""

    EMAIL_ADDRESS = 0
    COMMON_NAME = 1
    SURNAME = 2
    SERIAL_NUMBER = 3
    COUNTRY = 4
    LOCALITY = 5
    STATE = 6
    STREET = 7
    ORGANIZATION = 8
    ORGANIZATIONAL_UNIT = 9
    TITLE = 10
    BUSINESS_CATEGORY = 11
    POSTAL_CODE = 12
    GIVEN_NAME = 13
    INITIALS = 14
    GENERATION_QUALIFIER = 15
    DN_QUALIFIER = 16
    PSEUDONYM = 17
    ORGANIZATION_IDENTIFIER = 18
    JURISDICTION_LOCALITY = 19
    JURISDICTION_STATE = 20
    JURISDICTION_COUNTRY = 21
    DOMAIN_COMPONENT = 22
    NAME = 25
    TELEPHONE_NUMBER = 26
    DMD_NAME = 27
    USER_ID = 28
    UNSTRUCTURED_NAME = 29
    UNSTRUCTURED_ADDRESS = 30


IA5_ATTRIBUTES: Final = frozenset({0, 22})
"""Attributes that are always IA5String, so their sign carries nothing."""

_X520: Final = {
    1: 3, 2: 4, 3: 5, 4: 6, 5: 7, 6: 8, 7: 9, 8: 10, 9: 11, 10: 12, 11: 15, 12: 17, 13: 42, 14: 43, 15: 44,
    16: 46, 17: 65, 18: 97, 25: 41, 26: 20, 27: 54,
}  # fmt: skip
ATTRIBUTES: Final = _table(
    {
        0: "1.2.840.113549.1.9.1",
        **{number: f"2.5.4.{arc}" for number, arc in _X520.items()},
        **{18 + arc: f"1.3.6.1.4.1.311.60.2.1.{arc}" for arc in (1, 2, 3)},
        22: "0.9.2342.19200300.100.1.25",
        28: "0.9.2342.19200300.100.1.1",
        29: "1.2.840.113549.1.9.2",
        30: "1.2.840.113549.1.9.8",
    }
)

ATTRIBUTE_LABELS: Final[dict[int, str]] = {
    0: "emailAddress", 1: "CN", 2: "SN", 3: "serialNumber", 4: "C", 5: "L", 6: "ST", 7: "STREET", 8: "O",
    9: "OU", 10: "title", 11: "businessCategory", 12: "postalCode", 13: "givenName", 14: "initials",
    15: "generationQualifier", 16: "dnQualifier", 17: "pseudonym", 18: "organizationIdentifier",
    19: "jurisdictionL", 20: "jurisdictionST", 21: "jurisdictionC", 22: "DC", 25: "name",
    26: "telephoneNumber", 27: "dmdName", 28: "UID", 29: "unstructuredName", 30: "unstructuredAddress",
}  # fmt: skip


class RequestAttributeType(IntEnum):
    """Attributes of a certification request."""

    EXTENSION_REQUEST = 0
    CHALLENGE_PASSWORD = 1
    PRIVATE_KEY_POSSESSION_STATEMENT = 2


REQUEST_ATTRIBUTES: Final = _table(
    {0: "1.2.840.113549.1.9.14", 1: "1.2.840.113549.1.9.7", 2: "1.3.6.1.4.1.22112.2.1"}
)


class ExtensionId(IntEnum):
    """Certificate extensions."""

    SUBJECT_KEY_IDENTIFIER = 1
    KEY_USAGE = 2
    SUBJECT_ALT_NAME = 3
    BASIC_CONSTRAINTS = 4
    CRL_DISTRIBUTION_POINTS = 5
    CERTIFICATE_POLICIES = 6
    AUTHORITY_KEY_IDENTIFIER = 7
    EXTENDED_KEY_USAGE = 8
    AUTHORITY_INFO_ACCESS = 9
    SUBJECT_DIRECTORY_ATTRIBUTES = 24
    ISSUER_ALT_NAME = 25
    NAME_CONSTRAINTS = 26
    POLICY_MAPPINGS = 27
    POLICY_CONSTRAINTS = 28
    FRESHEST_CRL = 29
    INHIBIT_ANY_POLICY = 30
    SUBJECT_INFO_ACCESS = 31
    IP_ADDRESS_BLOCKS = 32
    AS_IDENTIFIERS = 33
    IP_ADDRESS_BLOCKS_V2 = 34
    AS_IDENTIFIERS_V2 = 35
    OCSP_NO_CHECK = 36
    TLS_FEATURES = 38


_CE: Final = {
    1: 14, 2: 15, 3: 17, 4: 19, 5: 31, 6: 32, 7: 35, 8: 37, 24: 9, 25: 18, 26: 30, 27: 33, 28: 36, 29: 46,
    30: 54,
}  # fmt: skip
_PE: Final = {9: 1, 31: 11, 32: 7, 33: 8, 34: 28, 35: 29, 38: 24}
EXTENSIONS: Final = _table(
    {
        **{number: f"2.5.29.{arc}" for number, arc in _CE.items()},
        **{number: f"1.3.6.1.5.5.7.1.{arc}" for number, arc in _PE.items()},
        36: "1.3.6.1.5.5.7.48.1.5",
    }
)


class KeyUsage(IntFlag):
    """Bits of the key usage extension; bit i of RFC 5280 §4.2.1.3 is 2^i."""

    DIGITAL_SIGNATURE = 1
    NON_REPUDIATION = 2
    KEY_ENCIPHERMENT = 4
    DATA_ENCIPHERMENT = 8
    KEY_AGREEMENT = 16
    KEY_CERT_SIGN = 32
    CRL_SIGN = 64
    ENCIPHER_ONLY = 128
    DECIPHER_ONLY = 256


class KeyPurpose(IntEnum):
    """Purposes of the extended key usage extension."""

    ANY = 0
    SERVER_AUTH = 1
    CLIENT_AUTH = 2
    CODE_SIGNING = 3
    EMAIL_PROTECTION = 4
    TIME_STAMPING = 8
    OCSP_SIGNING = 9
    PKINIT_CLIENT = 10
    PKINIT_KDC = 11
    SSH_CLIENT = 12
    SSH_SERVER = 13
    BUNDLE_SECURITY = 14
    CMC_CA = 15
    CMC_RA = 16
    CMC_ARCHIVE = 17
    CM_KGA = 18
    WISUN_FAN_DEVICE = 20


_KP: Final = {1: 1, 2: 2, 3: 3, 4: 4, 8: 8, 9: 9, 12: 21, 13: 22, 14: 35, 15: 27, 16: 28, 17: 29, 18: 32}
KEY_PURPOSES: Final = _table(
    {
        0: "2.5.29.37.0",
        **{number: f"1.3.6.1.5.5.7.3.{arc}" for number, arc in _KP.items()},
        10: "1.3.6.1.5.2.3.4",
        11: "1.3.6.1.5.2.3.5",
        20: "1.3.6.1.4.1.45605.1",
    }
)

_RSP_ROLE: Final = "2.23.146.1.2.1"
POLICIES: Final = _table(
    {
        0: "2.5.29.32.0",
        **{number: f"2.23.140.1.2.{number}" for number in (1, 2, 3)},
        4: "2.23.140.1.1",
        7: "1.3.6.1.5.5.7.14.2",
        8: "1.3.6.1.5.5.7.14.3",
        24: f"{_RSP_ROLE}.0",
        26: f"{_RSP_ROLE}.0.0.0.0.0",
        28: f"{_RSP_ROLE}.0.0.0",
        **{23 + 2 * arc: f"{_RSP_ROLE}.{arc}" for arc in range(1, 8)},
        **{30 + 2 * arc: f"{_RSP_ROLE}.0.0.1.{arc}" for arc in range(3)},
        **{36 + 2 * arc: f"{_RSP_ROLE}.0.0.2.{arc}" for arc in range(2)},
    }
)

POLICY_QUALIFIERS: Final = _table({1: "1.3.6.1.5.5.7.2.1", 2: "1.3.6.1.5.5.7.2.2"})

ACCESS_METHODS: Final = _table({arc: f"1.3.6.1.5.5.7.48.{arc}" for arc in (1, 2, 3, 5, 10, 11, 13)})


class GeneralNameType(IntEnum):
    """Kinds of general names; the negative ones are other names with a form of their own."""

    MAC_ADDRESS = -3
    SMTP_UTF8_MAILBOX = -2
    HARDWARE_MODULE_NAME = -1
    OTHER_NAME = 0
    EMAIL = 1
    DNS = 2
    DIRECTORY_NAME = 4
    URI = 6
    IP_ADDRESS = 7
    REGISTERED_ID = 8


OTHER_NAMES: Final = _table({-3: "1.3.6.1.5.5.7.8.12", -2: "1.3.6.1.5.5.7.8.9", -1: "1.3.6.1.5.5.7.8.4"})
