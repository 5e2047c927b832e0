"""Numbers of certificates in words: times, algorithms, keys, names, extensions."""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from agents.inspect.finding import Field
from protocol import c509
from protocol.c509 import der
from protocol.c509.registry import ACCESS_METHODS, KEY_PURPOSES, POLICIES
from protocol.profiles import labels_of_policies, prefixes_of_policies

_YEAR: Final = 365.25 * 86400
_LATEST: Final = 253402300799
"""99991231235959Z: no expiry."""

SIGNATURES: Final = {
    -256: "RSA with SHA-1", -255: "ECDSA with SHA-1", 0: "ECDSA with SHA-256", 1: "ECDSA with SHA-384",
    2: "ECDSA with SHA-512", 3: "ECDSA with SHAKE128", 4: "ECDSA with SHAKE256", 5: "unsigned",
    8: "SM2 with SM3", 12: "Ed25519", 13: "Ed448", 23: "RSA with SHA-256", 24: "RSA with SHA-384",
    25: "RSA with SHA-512", 26: "RSA-PSS with SHA-256", 27: "RSA-PSS with SHA-384",
    28: "RSA-PSS with SHA-512",
}  # fmt: skip
KEYS: Final = {
    0: "RSA", 1: "P-256", 2: "P-384", 3: "P-521", 6: "SM2", 8: "X25519", 9: "X448", 12: "Ed25519",
    13: "Ed448", 24: "brainpoolP256r1", 25: "brainpoolP384r1",
    26: "brainpoolP512r1", 27: "FRP256v1",
}  # fmt: skip


def moment(seconds: int | None) -> str:
    """Return a time in words; None and the last second of 9999 mean for ever."""
    if seconds is None or seconds >= _LATEST:
        return "no expiry"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(seconds: int | None) -> str:
    """Return a time's day, for tables; otherwise as `moment`."""
    words = moment(seconds)
    return words if words == "no expiry" else words.partition(" ")[0]


def span(seconds: float) -> str:
    """Return a length of time, roughly, as people say it."""
    for unit, size in (("year", _YEAR), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (unit == "minute" and seconds >= size):
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def validity(not_before: int, not_after: int | None, now: float) -> str:
    """Return what a validity period means now."""
    if now < not_before:
        return f"not yet, begins in {span(not_before - now)}"
    if not_after is None or not_after >= _LATEST:
        return "yes, without end"
    if now > not_after:
        return f"no, expired {span(now - not_after)} ago"
    return f"yes, {span(not_after - now)} left"


def algorithm(number: int | c509.Algorithm, names: dict[int, str]) -> str:
    """Return an algorithm's name, or its object identifier."""
    if isinstance(number, c509.Algorithm):
        return f"object identifier {der.oid_to_text(number.oid)}"
    return names.get(number, f"registered number {int(number)}")


def hexadecimal(data: bytes, most: int = 64) -> str:
    """Return bytes as hex, shortened with their count when long."""
    return data.hex() if len(data) <= most else f"{data[:32].hex()}… ({len(data)} bytes)"


def key(number: int | c509.Algorithm, octets: bytes) -> str:
    """Return a public key in words."""
    name = algorithm(number, KEYS)
    if number == c509.PublicKeyAlgorithm.RSA:
        modulus = der.read_unsigned(der.Reader(der.whole(octets, der.SEQUENCE)).take(der.INTEGER))
        return f"{name}, {int.from_bytes(modulus, 'big').bit_length()} bits"
    if octets[:1] in (b"\x02", b"\x03", b"\xfd", b"\xfe"):
        return f"{name}, compressed point {octets.hex()}"
    if octets[:1] == b"\x04":
        return f"{name}, point {octets.hex()}"
    return f"{name}, {hexadecimal(octets)}"


def object_identifier(octets: bytes) -> str:
    """Return a dotted object identifier."""
    return der.oid_to_text(octets)


def _dotted(number: int | bytes, table: dict[int, bytes]) -> str:
    octets = number if isinstance(number, bytes) else table.get(number)
    return f"number {number!r}" if octets is None else der.oid_to_text(octets)


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def key_usages(bits: int) -> list[str]:
    """Return the names of key usage bits."""
    return [_words(usage.name or "") for usage in c509.KeyUsage if bits & usage]


_PURPOSES: Final = {
    0: "any purpose", 1: "TLS server", 2: "TLS client", 3: "code signing", 4: "e-mail", 8: "time stamping",
    9: "OCSP signing", 15: "CMC CA", 16: "registration authority (cmcRA)", 18: "key generation authority",
    20: "Wi-SUN FAN device",
}  # fmt: skip


def purposes(numbers: Iterable[int | bytes]) -> list[str]:
    """Return extended key usages in words."""
    return [
        _PURPOSES[number]
        if isinstance(number, int) and number in _PURPOSES
        else _dotted(number, KEY_PURPOSES.oids)
        for number in numbers
    ]


def _general_name(name: c509.GeneralName) -> str:
    value: Any = name.value
    kind = _words(c509.GeneralNameType(name.type).name).replace("dns", "DNS").replace("uri", "URI")
    if isinstance(value, bytes):
        if name.type == c509.GeneralNameType.IP_ADDRESS and len(value) in (4, 16):
            return f"IP address {ipaddress.ip_address(value)}"
        if name.type == c509.GeneralNameType.IP_ADDRESS:
            return f"IP addresses {ipaddress.ip_address(value[:-1])}/{value[-1]}"
        if name.type == c509.GeneralNameType.REGISTERED_ID:
            return f"{kind} {der.oid_to_text(value)}"
        return f"{kind} {value.hex('-')}"
    if isinstance(value, tuple):
        return f"{kind} {der.oid_to_text(value[0])} {value[1].hex()}"
    return f"{kind} {value}"


def _basic_constraints(value: int) -> str:
    if value == -2:
        return "not a CA"
    return "a CA" if value == -1 else f"a CA, with at most {value} CA{'' if value == 1 else 's'} below it"


def _policies(value: Iterable[c509.PolicyInformation]) -> str:
    dotted = [_dotted(information.policy, POLICIES.oids) for information in value]
    labels = sorted(labels_of_policies(dotted))
    known = [f"labels {', '.join(labels)}"] if labels else []
    for space, prefixes in sorted(prefixes_of_policies(dotted).items()):
        known.append(f"{space.title} {', '.join(map(str, sorted(prefixes))) or 'of none'}")
    others = [oid for oid in dotted if not labels_of_policies([oid]) and not prefixes_of_policies([oid])]
    return "; ".join([*known, *([", ".join(others)] if others else [])])


def _authority(value: bytes | c509.AuthorityKeyIdentifier) -> str:
    if isinstance(value, bytes):
        return value.hex()
    names = ", ".join(_general_name(name) for name in value.issuer)
    return f"{value.key_identifier.hex()}, certificate {value.serial.hex()} of {names}"


def _points(value: Iterable[c509.DistributionPoint]) -> str:
    return ", ".join(uri for point in value for uri in point.uris)


def _subtrees(value: c509.NameConstraints) -> str:
    parts = [
        f"{what} {', '.join(_general_name(name) for name in names)}"
        for what, names in (("permitted", value.permitted), ("excluded", value.excluded))
        if names is not None
    ]
    return "; ".join(parts)


def _access(value: Iterable[tuple[int | bytes, str]]) -> str:
    methods = {1: "OCSP", 2: "CA issuers"}
    return ", ".join(
        f"{methods.get(method, '') if isinstance(method, int) else ''} {uri}".strip()
        or _dotted(method, ACCESS_METHODS.oids)
        for method, uri in value
    )


def attribute(kind: int | bytes) -> str:
    """Return the name of a subject's attribute."""
    if isinstance(kind, bytes):
        return der.oid_to_text(kind)
    return _words(c509.AttributeType(abs(kind)).name)


def extension_name(number: int | bytes) -> str:
    """Return what an extension is called."""
    if isinstance(number, bytes):
        return f"extension {der.oid_to_text(number)}"
    return _words(c509.ExtensionId(number).name)


def extension(found: c509.Extension) -> Field:
    """Return one extension in words."""
    value: Any = found.value
    critical = " (critical)" if found.critical else ""
    name = extension_name(found.id)
    if isinstance(found.id, bytes):
        return Field(name, hexadecimal(value) + critical, {"critical": found.critical, "der": value.hex()})
    match found.id:
        case c509.ExtensionId.KEY_USAGE:
            return Field(name, ", ".join(key_usages(value)) + critical, key_usages(value))
        case c509.ExtensionId.EXTENDED_KEY_USAGE:
            return Field(name, ", ".join(purposes(value)) + critical, purposes(value))
        case c509.ExtensionId.SUBJECT_ALT_NAME | c509.ExtensionId.ISSUER_ALT_NAME:
            names = [_general_name(one) for one in value]
            return Field(name, ", ".join(names) + critical, names)
        case c509.ExtensionId.BASIC_CONSTRAINTS:
            text = _basic_constraints(value)
        case c509.ExtensionId.CERTIFICATE_POLICIES:
            text = _policies(value)
        case c509.ExtensionId.AUTHORITY_KEY_IDENTIFIER:
            text = _authority(value)
        case c509.ExtensionId.CRL_DISTRIBUTION_POINTS | c509.ExtensionId.FRESHEST_CRL:
            text = _points(value)
        case c509.ExtensionId.NAME_CONSTRAINTS:
            text = _subtrees(value)
        case c509.ExtensionId.AUTHORITY_INFO_ACCESS | c509.ExtensionId.SUBJECT_INFO_ACCESS:
            text = _access(value)
        case _:
            text = value.hex() if isinstance(value, bytes) else str(value)
    return Field(name, text + critical)


def diagnostic(item: Any, depth: int = 0) -> str:  # noqa: ANN401 (decoded CBOR)
    """Return the outline of decoded CBOR: its shape and small numbers, no content."""
    if isinstance(item, bytes):
        # Never the bytes themselves: what is not recognised may be a key.
        return f"{len(item)} bytes"
    if isinstance(item, str):
        return f"text of {len(item)} characters"
    if isinstance(item, list):
        inner = ", ".join(diagnostic(member, depth + 1) for member in item[:12]) if depth < 3 else "…"
        return f"[{inner}{', …' if len(item) > 12 else ''}]"
    if isinstance(item, dict):
        pairs = (
            f"{diagnostic(k, depth + 1)}: {diagnostic(v, depth + 1)}" for k, v in list(item.items())[:12]
        )
        return f"{{{', '.join(pairs) if depth < 3 else '…'}}}"
    return (
        {None: "null", True: "true", False: "false"}.get(item, str(item)) if _is_simple(item) else str(item)
    )


def _is_simple(item: object) -> bool:
    return item is None or isinstance(item, bool)
