"""Policies written out by hand from the standards' tables, to hold validator and profiles against."""

import re
from dataclasses import replace
from typing import Any

import pytest

from protocol import c509
from protocol.c509 import AttributeType, ExtensionId, KeyUsage, PublicKeyAlgorithm
from protocol.validator import (
    P256_SHA256,
    P384_SHA384,
    P521_SHA512,
    Criticality,
    Extensions,
    Grammar,
    LeafConstraints,
    Path,
    PathRejected,
    Policy,
    Presence,
    Reason,
    Role,
    Rule,
    Subject,
    validate,
)
from protocol.validity import Clock
from tests.ev_world import NOW, EvWorld, Party

CLOCK = Clock(NOW)
REQUIRED, OPTIONAL, FORBIDDEN = Presence.REQUIRED, Presence.OPTIONAL, Presence.FORBIDDEN
CRITICAL = Rule(REQUIRED, Criticality.MUST)
CA_USAGE = KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN

# --- ISO 15118-2 ---------------------------------------------------------------------------------------

_BASE_2: dict[int | bytes, Rule] = {
    ExtensionId.KEY_USAGE: CRITICAL,
    ExtensionId.BASIC_CONSTRAINTS: CRITICAL,
}
SECC_2 = Policy(
    name="ev-secc (ISO 15118-2)",
    extended_key_usage=None,
    basic_constraints=LeafConstraints.CA_FALSE,
    role=Role.of("CPO"),
    extensions=Extensions(_BASE_2),
    ca_key_usage=CA_USAGE,
    ca_extensions=Extensions(_BASE_2),
    root_extensions=Extensions(_BASE_2),
    exact_path_lengths=True,
    root_role=Role.of("V2G"),
    max_der=800,
    min_intermediates=1,
    max_intermediates=2,
    sources={Reason.ROLE: "[V2G2-925]", Reason.TOO_LARGE: "[V2G2-010]", Reason.PATH_TOO_SHORT: "[V2G2-867]"},
)
CPS_2 = replace(SECC_2, name="ev-cps (ISO 15118-2)", role=Role.of("CPS"), sources={})
EMAID = Grammar("eMAID: 14 or 15 letters and digits", re.compile(r"[A-Z]{2}[0-9A-Z]{12,13}"))
CONTRACT_2 = replace(
    SECC_2,
    name="ev-contract (ISO 15118-2)",
    key_usage=KeyUsage.DIGITAL_SIGNATURE
    | KeyUsage.NON_REPUDIATION
    | KeyUsage.KEY_ENCIPHERMENT
    | KeyUsage.KEY_AGREEMENT,
    subject=Subject(common_name=EMAID, required=frozenset({AttributeType.ORGANIZATION})),
    role=Role.of("MO", required=False),
    root_role=Role.of("MO", "V2G"),
)
PCID = Grammar("PCID: 17 or 18 letters and digits", re.compile(r"[A-Za-z0-9]{17,18}"))
OEM_2 = replace(
    SECC_2,
    name="ev-oem (ISO 15118-2)",
    key_usage=KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_AGREEMENT,
    subject=Subject(common_name=PCID),
    role=Role.of("OEM"),
    root_role=Role.of("OEM"),
)

# --- ISO 15118-20 --------------------------------------------------------------------------------------

_CRITICAL_IF_THERE = Rule(OPTIONAL, Criticality.MUST)
_EITHER = Rule(OPTIONAL, Criticality.MAY)
_BASE_20: dict[int | bytes, Rule] = {
    **_BASE_2,
    ExtensionId.AUTHORITY_KEY_IDENTIFIER: CRITICAL,
    ExtensionId.SUBJECT_KEY_IDENTIFIER: CRITICAL,
    ExtensionId.CRL_DISTRIBUTION_POINTS: _CRITICAL_IF_THERE,
    ExtensionId.AUTHORITY_INFO_ACCESS: _CRITICAL_IF_THERE,
    ExtensionId.CERTIFICATE_POLICIES: Rule(),
}
_POINTERS: frozenset[int | bytes] = frozenset(
    {ExtensionId.CRL_DISTRIBUTION_POINTS, ExtensionId.AUTHORITY_INFO_ACCESS}
)
_CLOSED = Extensions({**_BASE_20, ExtensionId.SUBJECT_INFO_ACCESS: Rule()}, others=False, one_of=(_POINTERS,))
SECC_20 = replace(
    SECC_2,
    name="ev-secc (ISO 15118-20)",
    leaf_keys=frozenset({PublicKeyAlgorithm.P521}),
    suites=frozenset({P521_SHA512}),
    extended_key_usage=frozenset(),
    role=Role.of("CSO"),
    extensions=_CLOSED,
    ca_extensions=Extensions(_BASE_20, others=False),
    # What is there of a root is its owner's: nobody asks the table whether a root's identifiers are critical.
    root_extensions=Extensions({**_BASE_2, **dict.fromkeys(_BASE_20.keys() - _BASE_2.keys(), _EITHER)}),
    key_identifier_bytes=frozenset({8}),
    max_der=1600,
    max_intermediates=3,
    sources={Reason.EXTENSION_FORBIDDEN: "[V2G20-2686]"},
)
CPS_20 = replace(SECC_20, name="ev-cps (ISO 15118-20)", role=Role.of("CPS"))
_NAMES_20 = frozenset({AttributeType.COMMON_NAME, AttributeType.ORGANIZATION})
CONTRACT_20 = replace(
    SECC_20,
    name="ev-contract (ISO 15118-20)",
    key_usage_forbidden=CA_USAGE
    | KeyUsage.DATA_ENCIPHERMENT
    | KeyUsage.ENCIPHER_ONLY
    | KeyUsage.DECIPHER_ONLY,
    subject=Subject(common_name=EMAID, required=_NAMES_20, permitted=_NAMES_20),
    role=None,
    root_role=Role.of("MO", "V2G"),
)

# --- DLMS/COSEM ----------------------------------------------------------------------------------------

SYSTEM_TITLE = Grammar("system title: 16 upper-case hex digits", re.compile(r"[0-9A-F]{16}"))
_NEVER = Rule(FORBIDDEN)
METER_DS = Policy(
    name="meter-ds",
    leaf_keys=frozenset({PublicKeyAlgorithm.P256, PublicKeyAlgorithm.P384}),
    basic_constraints=LeafConstraints.ABSENT,
    subject=Subject(common_name=SYSTEM_TITLE, permitted=frozenset({AttributeType.COMMON_NAME})),
    extensions=Extensions(
        {
            ExtensionId.KEY_USAGE: CRITICAL,
            ExtensionId.AUTHORITY_KEY_IDENTIFIER: Rule(),
            ExtensionId.SUBJECT_KEY_IDENTIFIER: Rule(),
            ExtensionId.CERTIFICATE_POLICIES: Rule(),
            ExtensionId.SUBJECT_ALT_NAME: Rule(OPTIONAL, Criticality.MAY),
            ExtensionId.ISSUER_ALT_NAME: _NEVER,
            ExtensionId.EXTENDED_KEY_USAGE: _NEVER,
            ExtensionId.CRL_DISTRIBUTION_POINTS: _NEVER,
        }
    ),
    key_identifier_bytes=frozenset({8, 20}),
    suites=frozenset({P256_SHA256, P384_SHA384}),
    signers={PublicKeyAlgorithm.P384: frozenset({PublicKeyAlgorithm.P384})},
    ca_key_usage=CA_USAGE,
)


def hardware_module(certificate: c509.Certificate) -> str | None:
    """Say what is wrong with a name that is one HardwareModuleName of eight octets."""
    names: tuple[c509.GeneralName, ...] = certificate.extension(ExtensionId.SUBJECT_ALT_NAME) or ()
    if len(names) != 1 or names[0].type != c509.GeneralNameType.HARDWARE_MODULE_NAME:
        return "is not named by one hardware module name"
    value: Any = names[0].value
    return None if len(value[1]) == 8 else "has no EUI-64 as serial number"


SMKI_DS = replace(
    METER_DS,
    name="GB SMKI device",
    leaf_keys=frozenset({PublicKeyAlgorithm.P256}),
    suites=frozenset({P256_SHA256}),
    subject=Subject(empty=True, check=hardware_module),
    extensions=Extensions(
        {
            ExtensionId.KEY_USAGE: CRITICAL,
            ExtensionId.SUBJECT_ALT_NAME: CRITICAL,
            ExtensionId.CERTIFICATE_POLICIES: CRITICAL,
            ExtensionId.AUTHORITY_KEY_IDENTIFIER: Rule(REQUIRED),
            ExtensionId.SUBJECT_KEY_IDENTIFIER: Rule(REQUIRED),
        },
        others=False,
    ),
    key_identifier_bytes=frozenset({8}),
)


def accept(world: EvWorld, leaf: Party, policy: Policy, **named: Any) -> Path:
    """Return the path that is found in `world`."""
    return validate(
        leaf.certificate,
        named.pop("pool", world.cas),
        named.pop("roots", world.roots),
        policy=policy,
        clock=named.pop("clock", CLOCK),
        **named,
    )


def reasons(world: EvWorld, leaf: Party, policy: Policy, **named: Any) -> frozenset[Reason]:
    """Return why there is no path."""
    with pytest.raises(PathRejected) as caught:
        accept(world, leaf, policy, **named)
    return caught.value.reasons
