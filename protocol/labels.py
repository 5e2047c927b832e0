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


class Industry(StrEnum):
    """What a service is for; each has one domain or several."""

    METERING = "metering"
    EV = "ev"
    ITS = "its"


class Domain(StrEnum):
    """A closed world of certificates with one authority; those of one never open a door of another.

    An industry has several where its standards ask for other roots, other curves or other operators.
    """

    METERING = "metering"
    """IEC 62056, security suite 1: P-256."""
    METERING2 = "metering2"
    """IEC 62056, security suite 2: P-384."""
    SMKI = "smki"
    """Meters of Great Britain."""
    EV_MO = "ev-mo"
    """ISO 15118-2: mobility operators, whose contracts cars hold."""
    EV_CPO = "ev-cpo"
    """ISO 15118-2: charge point operators, whose stations show a certificate."""
    EV_CPS = "ev-cps"
    """ISO 15118-2: certificate provisioning services, which vouch for contracts in transit."""
    EV20_MO = "ev20-mo"
    """ISO 15118-20: as EV_MO, P-521."""
    EV20_CPO = "ev20-cpo"
    """ISO 15118-20: as EV_CPO, P-521."""
    EV20_CPS = "ev20-cps"
    """ISO 15118-20: as EV_CPS, P-521."""
    ITS = "its"
    """Vehicle-to-vehicle traffic."""

    @property
    def industry(self) -> Industry:
        """The industry that it belongs to."""
        return _INDUSTRIES.get(self, Industry.EV)


_INDUSTRIES = {
    Domain.METERING: Industry.METERING,
    Domain.METERING2: Industry.METERING,
    Domain.SMKI: Industry.METERING,
    Domain.ITS: Industry.ITS,
}


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
    MAIL = "mail"
    """A meter and its head-end leave letters for each other and take them (`protocol.metering.mail`)."""

    @property
    def has_body(self) -> bool:
        """Whether a request carries a signed body (POST) or none (GET)."""
        return self not in _WITHOUT_BODY


_WITHOUT_BODY = frozenset({Operation.CRTS, Operation.ATT, Operation.CRL})
