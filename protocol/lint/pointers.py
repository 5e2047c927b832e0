"""Rules about what leads from one certificate elsewhere: key identifiers and revocation pointers."""

from collections.abc import Iterator
from typing import Final

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.end_entity import key_identifier
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.lint.shape import Shape
from protocol.lint.view import View

_SKI: Final = ExtensionId.SUBJECT_KEY_IDENTIFIER
_AKI: Final = ExtensionId.AUTHORITY_KEY_IDENTIFIER
_AIA: Final = ExtensionId.AUTHORITY_INFO_ACCESS
_CRL: Final = ExtensionId.CRL_DISTRIBUTION_POINTS
_OCSP: Final = 1
_METHODS: Final = {20: "method 1", 8: "method 2"}
_HTTP: Final = "http://"


def identifier_deviations(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with the key identifiers."""
    length = shape.key_identifier_bytes
    if not length:
        return
    has = view.has
    wanted = f"{length} bytes ({_METHODS[length]} of RFC 5280 §4.2.1.2)"
    own: bytes | None = has.value(_SKI)
    if own is None:
        if _SKI not in has.unreadable:
            yield shape.deviation(Rule.KEY_IDENTIFIERS, "no subject key identifier", wanted, None)
    elif len(own) != length:
        found = f"a subject key identifier of {len(own)} bytes"
        yield shape.deviation(Rule.KEY_IDENTIFIERS, found, wanted, _severity(own, view, shape))
    elif view.point is not None and own != key_identifier(view.point, length):
        found = f"subject key identifier {own.hex()}, computed in another way"
        yield shape.deviation(Rule.KEY_IDENTIFIERS, found, key_identifier(view.point, length).hex(), None)
    yield from _authority(view, shape, wanted)


def _severity(own: bytes, view: View, shape: Shape) -> Severity | None:
    """Return how bad another length is: where any of the two methods will do, the other one will."""
    is_method = (
        len(own) in _METHODS and view.point is not None and own == key_identifier(view.point, len(own))
    )
    return Severity.WARNING if is_method and shape.key_identifier_bytes == 20 else None


def _authority(view: View, shape: Shape, wanted: str) -> Iterator[Deviation]:
    named: bytes | c509.AuthorityKeyIdentifier | None = view.has.value(_AKI)
    if named is None:
        # A root's own key is found without (RFC 5280 §4.2.1.1).
        if not shape.is_root and _AKI not in view.has.unreadable:
            yield shape.deviation(Rule.KEY_IDENTIFIERS, "no authority key identifier", wanted, None)
        return
    if isinstance(named, c509.AuthorityKeyIdentifier):
        yield shape.deviation(
            Rule.KEY_IDENTIFIERS,
            "an authority key identifier with the issuer's name and serial number",
            "the key identifier alone: the rest costs bytes",
            Severity.WARNING,
        )
        named = named.key_identifier
    issuers = None if view.issuer is None else view.issuer.extension(_SKI)
    if isinstance(issuers, bytes) and view.is_self_issued is shape.is_root:
        if named != issuers:
            found = f"authority key identifier {named.hex()}"
            yield shape.deviation(Rule.KEY_IDENTIFIERS, found, f"{issuers.hex()}, the issuer's own")
    elif len(named) != shape.key_identifier_bytes:
        found = f"an authority key identifier of {len(named)} bytes"
        is_other = len(named) in _METHODS and shape.key_identifier_bytes == 20
        yield shape.deviation(Rule.KEY_IDENTIFIERS, found, wanted, Severity.WARNING if is_other else None)


def pointer_deviations(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with what tells where revocation is published."""
    if not shape.has_revocation_pointers:
        return
    has = view.has
    missing = [name for kind, name in ((_AIA, "OCSP"), (_CRL, "CRL")) if kind not in has.found]
    if missing:
        # Either of the two leads on; the standards ask for one of them, our profiles for both.
        severity = None if len(missing) == 2 else Severity.WARNING
        found = " and ".join(f"no place of {name}" for name in missing)
        yield shape.deviation(Rule.REVOCATION_POINTERS, found, "OCSP and CRL, each by its place", severity)
    access: tuple[tuple[int | bytes, str], ...] = has.value(_AIA) or ()
    responders = [uri for method, uri in access if method == _OCSP]
    if access and not responders:
        yield shape.deviation(
            Rule.REVOCATION_POINTERS,
            "authority information access without OCSP",
            "the place of an OCSP responder",
            Severity.WARNING,
        )
    points: tuple[c509.DistributionPoint, ...] = has.value(_CRL) or ()
    others = [
        uri
        for uri in (*responders, *(uri for point in points for uri in point.uris))
        if not uri.startswith(_HTTP)
    ]
    if others:
        # TLS would need the very verdict that is asked for (RFC 5280 §8); http is what everybody has.
        yield shape.deviation(Rule.REVOCATION_POINTERS, ", ".join(others), "http URLs", Severity.WARNING)
