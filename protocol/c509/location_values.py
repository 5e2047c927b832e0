"""Values of the extensions that say where something is (RFC 5280 §4.2.1.13, §4.2.2)."""

from typing import Any, Final, NamedTuple

from protocol.c509 import der
from protocol.c509.checks import array, ia5, malformed, members, pairs, registered, uint
from protocol.c509.codec import Codec, flat, number_der, read
from protocol.c509.name import Name
from protocol.c509.registry import ACCESS_METHODS


class DistributionPoint(NamedTuple):
    """One CRL distribution point; `reasons` is a sum of 2^i over the bits of RFC 5280's ReasonFlags."""

    uris: tuple[str, ...]
    reasons: int | None = None
    crl_issuer: Name | None = None


def _distribution_point(item: Any, native: bool) -> DistributionPoint:  # noqa: ANN401
    full, reasons, issuer = members(item, 3, "a distribution point")
    uris = (ia5(full),) if type(full) is not list else tuple(map(ia5, array(full, 2)))
    if reasons is not None and uint(reasons) > 0x1FF:
        malformed("reasons have nine bits")
    return DistributionPoint(uris, reasons, None if issuer is None else Name.from_item(issuer, native=native))


def _distribution_points(item: Any, native: bool) -> tuple[DistributionPoint, ...]:  # noqa: ANN401
    if type(item) is str:
        return (DistributionPoint((ia5(item),)),)
    points = tuple(_distribution_point(point, native) for point in array(item, 1))
    if len(points) == 1 and len(points[0].uris) == 1 and points[0][1:] == (None, None):
        malformed("a lone URI is written without its arrays")
    return points


def _distribution_points_item(points: tuple[DistributionPoint, ...]) -> object:
    items: list[object] = [
        (uris[0] if len(uris) == 1 else uris, reasons, None if issuer is None else issuer.to_item())
        for uris, reasons, issuer in points
    ]
    lone = len(points) == 1 and len(points[0].uris) == 1 and points[0][1:] == (None, None)
    return points[0].uris[0] if lone else items


def _distribution_points_der(points: tuple[DistributionPoint, ...]) -> bytes:
    found: list[bytes] = []
    for uris, reasons, issuer in points:
        names = b"".join(der.tlv(0x86, uri.encode()) for uri in uris)
        found.append(
            der.sequence(
                der.tlv(0xA0, der.tlv(0xA0, names)),
                b"" if reasons is None else der.named_bits(reasons, 0x81),
                b"" if issuer is None else der.tlv(0xA2, der.tlv(0xA4, issuer.to_der())),
            )
        )
    return der.sequence(*found)


def _distribution_points_from_der(data: bytes) -> tuple[DistributionPoint, ...]:
    reader = read(data, der.SEQUENCE)
    points: list[DistributionPoint] = []
    while reader.more:
        point = reader.inner(der.SEQUENCE)
        names = point.inner(0xA0).inner(0xA0)
        uris: list[str] = []
        while names.more:
            uris.append(names.take(0x86).decode("ascii"))
        reasons = der.read_named_bits(point.take(0x81)) if point.peek() == 0x81 else None
        issuer = Name.from_der(point.inner(0xA2).take(0xA4)) if point.peek() == 0xA2 else None
        points.append(DistributionPoint(tuple(uris), reasons, issuer))
    return tuple(points)


def _access(item: Any, native: bool) -> tuple[tuple[int | bytes, str], ...]:  # noqa: ANN401
    return tuple(
        (registered(method, ACCESS_METHODS, native=native), ia5(uri)) for method, uri in pairs(item, 1)
    )


def _access_der(descriptions: tuple[tuple[int | bytes, str], ...]) -> bytes:
    return der.sequence(
        *(
            der.sequence(number_der(method, ACCESS_METHODS), der.tlv(0x86, uri.encode()))
            for method, uri in descriptions
        )
    )


def _access_from_der(data: bytes) -> tuple[tuple[int | bytes, str], ...]:
    reader = read(data, der.SEQUENCE)
    found: list[tuple[int | bytes, str]] = []
    while reader.more:
        description = reader.inner(der.SEQUENCE)
        method = description.take(der.OID)
        uri = description.take(0x86).decode("ascii")
        found.append((ACCESS_METHODS.numbers.get(method, method), uri))
    return tuple(found)


POINTS_CODEC: Final = Codec(
    _distribution_points, _distribution_points_item, _distribution_points_der, _distribution_points_from_der
)
ACCESS_CODEC: Final = Codec(_access, flat, _access_der, _access_from_der)
