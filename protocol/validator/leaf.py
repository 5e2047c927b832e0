"""What is wrong with one certificate as a leaf, and what is wrong with any: no issuer is asked here."""

from collections.abc import Iterator
from typing import Final

from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage, PublicKeyAlgorithm
from protocol.errors import MalformedMessage
from protocol.validator.extension_rules import extension_complaints
from protocol.validator.listed import Listed, listed, policies_of
from protocol.validator.period import check_time
from protocol.validator.policy import LeafConstraints, Policy
from protocol.validator.reasons import Finding, Reason
from protocol.validator.sentences import Complaint, findings_of
from protocol.validator.subject import role_complaints, subject_complaints
from protocol.validity import Clock

MAX_SERIAL_BYTES: Final = 20
"""RFC 5280 §4.1.2.2."""


def leaf_findings(certificate: c509.Certificate, policy: Policy, clock: Clock) -> list[Finding]:
    """Return everything that is wrong with `certificate` as the leaf of a path.

    No signature is checked and no issuer asked: this is the cheap part of a validation, and all there is
    to say of a lone certificate.

    Args:
        certificate: Any certificate.
        policy: What is asked of it.
        clock: What is known of the time.

    Returns:
        In the order of the checks; empty if nothing is wrong. Nothing is raised.
    """
    has = listed(certificate)
    found: list[Complaint] = []
    if policy.form is not None and certificate.type != policy.form:
        found.append((Reason.FORM, f"is of type {certificate.type}, not {policy.form}"))
    found += encoding_complaints(certificate, policy)
    found += _key_complaints(certificate, policy)
    found += extension_complaints(has, policy.extensions)
    found += _usage_complaints(has, policy)
    found += _constraint_complaints(has, policy)
    found += subject_complaints(certificate, has, policy)
    if policy.role is not None:
        found += role_complaints(certificate, policy.role)
    if not policy.policies <= set(policies_of(certificate)):
        found.append((Reason.POLICIES, "lacks a certificate policy that the policy asks for"))
    identifier = has.value(ExtensionId.SUBJECT_KEY_IDENTIFIER)
    lengths = policy.key_identifier_bytes
    if lengths is not None and identifier is not None and len(identifier) not in lengths:
        wanted = " or ".join(map(str, sorted(lengths)))
        found.append(
            (Reason.KEY_IDENTIFIER, f"has a key identifier of {len(identifier)} bytes, not {wanted}")
        )
    _, late = check_time(certificate, clock, policy)
    if late is not None:
        found.append(late)
    return findings_of("the leaf", certificate, found, policy)


def encoding_complaints(certificate: c509.Certificate, policy: Policy) -> Iterator[Complaint]:
    """Yield what is wrong with a leaf's or CA's size, serial number, or the key that its DER needs."""
    if len(certificate.serial) > MAX_SERIAL_BYTES:
        yield Reason.SERIAL, f"has a serial number of {len(certificate.serial)} octets"
    if policy.max_der is None:
        return
    try:
        native = certificate.type == c509.NATIVE
        size = len(certificate.encoded if native else certificate.to_der())
    except MalformedMessage:
        yield Reason.BAD_KEY, "has a public key that is not on its curve"
        return
    if size > policy.max_der:
        yield Reason.TOO_LARGE, f"is {size} bytes long; {policy.max_der} are allowed"


def _key_complaints(certificate: c509.Certificate, policy: Policy) -> Iterator[Complaint]:
    algorithm = certificate.public_key_algorithm
    if not isinstance(algorithm, int):
        yield Reason.KEY_ALGORITHM, "has a key of an algorithm without a number"
    elif algorithm not in policy.leaf_keys:
        yield Reason.KEY_ALGORITHM, f"has a {PublicKeyAlgorithm(algorithm).name} key"


def _usage_complaints(has: Listed, policy: Policy) -> Iterator[Complaint]:
    usage: int | None = has.value(ExtensionId.KEY_USAGE)
    if usage is None:
        yield Reason.KEY_USAGE, "does not say what its key is used for"
    else:
        missing = policy.key_usage & ~usage
        if missing:
            yield Reason.KEY_USAGE, f"lacks key usage {usage_names(missing)}"
        extra = usage & policy.forbidden_usages
        if extra:
            yield Reason.KEY_USAGE, f"must not have key usage {usage_names(extra)}"
    wanted = policy.extended_key_usage
    if wanted is not None:
        purposes: tuple[int | bytes, ...] = has.value(ExtensionId.EXTENDED_KEY_USAGE) or ()
        if frozenset(purposes) != wanted:
            yield Reason.EXTENDED_KEY_USAGE, "has other extended key usages than the policy asks for"


def usage_names(usage: int) -> str:
    """Return names for a sum of `KeyUsage` bits."""
    return "+".join(str(bit.name).lower().replace("_", " ") for bit in KeyUsage if bit & usage)


def _constraint_complaints(has: Listed, policy: Policy) -> Iterator[Complaint]:
    constraint: int | None = has.value(ExtensionId.BASIC_CONSTRAINTS)
    if constraint is None:
        if policy.basic_constraints is LeafConstraints.CA_FALSE:
            yield Reason.BASIC_CONSTRAINTS, "lacks basic constraints CA:FALSE"
    elif constraint >= -1:
        yield Reason.LEAF_IS_CA, "is a CA's: basic constraints say CA:TRUE"
    elif policy.basic_constraints is LeafConstraints.ABSENT:
        yield Reason.BASIC_CONSTRAINTS, "must not have basic constraints"
