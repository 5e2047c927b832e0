"""Tiers, domains and operations: the words that every other room uses."""

from enum import IntEnum, StrEnum


class Tier(IntEnum):
    """What a certificate is for (Ju and Seo, "Certificate Management Scheme for IoT Services", 2020)."""

    BOOTSTRAPPING = 1
    """Made with the device: who built it."""
    PARTICIPATION = 2
    """Who owns or operates it now."""
    ADDED_VALUE = 3
    """Short-lived, opens one service."""


class Domain(StrEnum):
    """An industry; certificates of one never open a door of another."""

    METERING = "metering"
    EV = "ev"
    ITS = "its"


class Operation(StrEnum):
    """What is asked of an authority: the last path segment (CoAP) or topic level (MQTT)."""

    CRTS = "crts"
    """CA certificates (RFC 9148 §4.2)."""
    ATT = "att"
    """What to put in the request (CSR attributes)."""
    SEN = "sen"
    """Simple enroll: the first certificate under a label, or recovery."""
    SREN = "sren"
    """Simple re-enroll, here always with a new key."""
    SKG = "skg"
    """Server-side key generation."""
    CONF = "conf"
    """The device confirms that it installed a certificate, or says why not."""
    REV = "rev"
    """The device gives a certificate of its own back."""
    CRL = "crl"
    """The revocation list of the label's issuer."""

    @property
    def has_body(self) -> bool:
        """Whether a request carries a signed body (POST) or none (GET)."""
        return self not in _WITHOUT_BODY


_WITHOUT_BODY = frozenset({Operation.CRTS, Operation.ATT, Operation.CRL})
