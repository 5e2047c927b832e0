"""Certificates out of whatever file somebody gave: the one that is meant, and those that came with it."""

from dataclasses import dataclass

from agents.inspect.armour import as_text, is_pem, pem_blocks, plain
from agents.inspect.finding import NotRecognised
from agents.inspect.recognise import MAX_BYTES, inspect
from protocol import c509
from protocol.errors import MalformedMessage


@dataclass(frozen=True, slots=True)
class Given:
    """The first certificate of a file.

    Attributes:
        der: It, where it was DER; perhaps broken.
        certificate: It, where it can be read.
        others: The other certificates that can be read, in order: its issuers, if the file is a chain.
    """

    der: bytes | None
    certificate: c509.Certificate | None
    others: tuple[c509.Certificate, ...] = ()


def given_certificate(data: bytes) -> Given:
    """Return the certificate that a file is about.

    DER that is no certificate is taken for a broken one, unless it is known as something else.

    Args:
        data: DER, C509 (also the form before revision 20, and COSE_C509), PEM with its chain, or hex or
            base64 of one of them.

    Raises:
        NotRecognised: There is none; says what there is.
    """
    if not data:
        raise NotRecognised("it is empty")
    if len(data) > MAX_BYTES:
        raise NotRecognised(f"it is longer than {MAX_BYTES} bytes, which no certificate is")
    text = as_text(data)
    if text is None:
        return _binary(data)
    if is_pem(text):
        # A chain may stand beside its key, as TLS servers have it.
        given = [
            _binary(block.data) for block in pem_blocks(text) if "CERTIFICATE" in block.label and block.data
        ]
        if not given:
            raise NotRecognised(_what(data))
        others = tuple(one.certificate for one in given[1:] if one.certificate is not None)
        return Given(given[0].der, given[0].certificate, (*given[0].others, *others))
    encoded = plain(text)
    if encoded is None:
        raise NotRecognised(_what(data))
    return _binary(encoded.data)


def _binary(data: bytes) -> Given:
    if data[0] == 0x30:
        try:
            return Given(data, c509.from_der(data))
        except c509.NotConvertible:
            pass
        return _broken(data)
    for decode in (c509.decode_certificate, c509.decode_certificate_sequence):
        try:
            return Given(None, decode(data))
        except MalformedMessage:
            continue
    try:
        first, *others = c509.decode_chain(data)
    except (MalformedMessage, ValueError):
        raise NotRecognised(_what(data)) from None
    return Given(None, first, tuple(others))


def _broken(data: bytes) -> Given:
    try:
        (found,) = inspect(data, 0)
    except NotRecognised:
        return Given(data, None)
    if found.kind != "x509-certificate":
        raise NotRecognised(f"this is no certificate, but: {found.title}")
    return Given(data, None)


def _what(data: bytes) -> str:
    """Return what `data` is, which is no certificate."""
    try:
        found = inspect(data, 0)
    except NotRecognised as error:
        return str(error)
    return f"this is no certificate, but: {found[0].title}"
