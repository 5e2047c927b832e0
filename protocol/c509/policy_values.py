"""Values of the extensions about certificate policies (RFC 5280 §4.2.1.4, §4.2.1.5, §4.2.1.11)."""

from typing import Any, Final, NamedTuple

from protocol.c509 import der
from protocol.c509.checks import ia5, malformed, members, pairs, registered, uint
from protocol.c509.codec import Codec, flat, number_der, read, same, small_int
from protocol.c509.registry import POLICIES, POLICY_QUALIFIERS


class PolicyInformation(NamedTuple):
    """One certificate policy; qualifiers are (1, CPS URI) and (2, user notice's explicit text)."""

    policy: int | bytes
    qualifiers: tuple[tuple[int | bytes, str], ...] = ()


class PolicyConstraints(NamedTuple):
    """Numbers of certificates after which a constraint holds."""

    require_explicit_policy: int | None
    inhibit_policy_mapping: int | None


def _policies(item: Any, native: bool) -> tuple[PolicyInformation, ...]:  # noqa: ANN401
    found: list[PolicyInformation] = []
    for policy, qualifiers in pairs(item, 1):
        found.append(
            PolicyInformation(
                registered(policy, POLICIES, native=native),
                tuple(_qualifier(*qualifier, native=native) for qualifier in pairs(qualifiers)),
            )
        )
    return tuple(found)


def _qualifier(kind: Any, text: Any, *, native: bool) -> tuple[int | bytes, str]:  # noqa: ANN401
    kind = registered(kind, POLICY_QUALIFIERS, native=native)
    if kind == 1:
        return kind, ia5(text)
    # X.509's type of another qualifier's text is not known here, so there is no way back to DER.
    if type(text) is not str or (type(kind) is bytes and not native):
        malformed("policy qualifier without an X.509 form")
    return kind, text


def _policies_item(policies: tuple[PolicyInformation, ...]) -> object:
    return [
        part
        for policy, qualifiers in policies
        for part in (policy, [member for qualifier in qualifiers for member in qualifier])
    ]


def _policies_der(policies: tuple[PolicyInformation, ...]) -> bytes:
    found: list[bytes] = []
    for policy, qualifiers in policies:
        parts = [
            der.sequence(
                number_der(kind, POLICY_QUALIFIERS),
                der.tlv(der.IA5_STRING, text.encode())
                if kind == 1
                else der.sequence(der.tlv(der.UTF8_STRING, text.encode())),
            )
            for kind, text in qualifiers
        ]
        found.append(der.sequence(number_der(policy, POLICIES), der.sequence(*parts) if parts else b""))
    return der.sequence(*found)


def _policies_from_der(data: bytes) -> tuple[PolicyInformation, ...]:
    reader = read(data, der.SEQUENCE)
    found: list[PolicyInformation] = []
    while reader.more:
        policy = reader.inner(der.SEQUENCE)
        identifier = policy.take(der.OID)
        qualifiers: list[tuple[int | bytes, str]] = []
        listed = policy.inner(der.SEQUENCE) if policy.more else der.Reader(b"")
        while listed.more:
            qualifier = listed.inner(der.SEQUENCE)
            kind = POLICY_QUALIFIERS.numbers[qualifier.take(der.OID)]
            notice = qualifier.take(der.IA5_STRING) if kind == 1 else None
            if notice is None:
                notice = qualifier.inner(der.SEQUENCE).take(der.UTF8_STRING)
            qualifiers.append((kind, notice.decode()))
        found.append(PolicyInformation(POLICIES.numbers.get(identifier, identifier), tuple(qualifiers)))
    return tuple(found)


def _mappings(item: Any, native: bool) -> tuple[tuple[int | bytes, int | bytes], ...]:  # noqa: ANN401
    return tuple(
        (registered(issuer, POLICIES, native=native), registered(subject, POLICIES, native=native))
        for issuer, subject in pairs(item, 1)
    )


def _mappings_der(mappings: tuple[tuple[int | bytes, int | bytes], ...]) -> bytes:
    return der.sequence(
        *(der.sequence(*(number_der(policy, POLICIES) for policy in mapping)) for mapping in mappings)
    )


def _mappings_from_der(data: bytes) -> tuple[tuple[int | bytes, int | bytes], ...]:
    reader = read(data, der.SEQUENCE)
    found: list[tuple[int | bytes, int | bytes]] = []
    while reader.more:
        mapping = reader.inner(der.SEQUENCE)
        issuer, subject = mapping.take(der.OID), mapping.take(der.OID)
        found.append((POLICIES.numbers.get(issuer, issuer), POLICIES.numbers.get(subject, subject)))
    return tuple(found)


def _policy_constraints(item: Any, _native: bool) -> PolicyConstraints:  # noqa: ANN401
    skips = members(item, 2, "policy constraints")
    return PolicyConstraints(*(None if skip is None else uint(skip) for skip in skips))


def _policy_constraints_der(value: PolicyConstraints) -> bytes:
    return der.sequence(
        *(der.integer(skip, 0x80 | at) for at, skip in enumerate(value) if skip is not None),
    )


def _policy_constraints_from_der(data: bytes) -> PolicyConstraints:
    reader = read(data, der.SEQUENCE)
    return PolicyConstraints(
        *(small_int(reader.take(tag)) if reader.peek() == tag else None for tag in (0x80, 0x81))
    )


POLICIES_CODEC: Final = Codec(_policies, _policies_item, _policies_der, _policies_from_der)
MAPPINGS_CODEC: Final = Codec(_mappings, flat, _mappings_der, _mappings_from_der)
CONSTRAINTS_CODEC: Final = Codec(
    _policy_constraints, same, _policy_constraints_der, _policy_constraints_from_der
)
