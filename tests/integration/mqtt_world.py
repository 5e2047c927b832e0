"""What the MQTT tests share: a raw client that may misbehave, certificates, a mosquitto of our own."""

import datetime as dt
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from blockbuster import blockbuster_ctx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.ports import Content, Inbound, Media, Reply

PATIENCE = 10.0
"""Seconds until a test gives up on what must happen."""
SILENCE = 0.3
"""Seconds in which what must not happen would have happened."""

CONNECT, CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x10, 0x20, 0x30, 0x40, 0x90, 0xD0


async def echo(request: Inbound) -> Reply:
    """Answer with the request itself."""
    return Content(b"answer to " + request.body, Media.C509_CERTIFICATE)


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await anyio.sleep(0.01)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes, length: int | None = None) -> bytes:
    """Return a packet, claiming to be `length` long if that is given."""
    left, encoded = len(body) if length is None else length, bytearray()
    while True:
        left, byte = divmod(left, 128)
        encoded.append(byte | (0x80 if left else 0))
        if not left:
            return bytes([first]) + bytes(encoded) + body


def connect_packet(
    client_id: str,
    *,
    keepalive: int = 60,
    clean: bool = True,
    login: tuple[str, str] | None = None,
    will: tuple[str, bytes] | None = None,
    level: int = 4,
) -> bytes:
    flags = 0x02 * clean | 0xC0 * (login is not None) | 0x0C * (will is not None)
    body = text("MQTT") + bytes([level, flags]) + struct.pack("!H", keepalive) + text(client_id)
    if will is not None:
        body += text(will[0]) + text(will[1])
    if login is not None:
        body += text(login[0]) + text(login[1])
    return packet(CONNECT, body)


@dataclass
class RawClient:
    """A socket and just enough MQTT 3.1.1 to say anything, right or wrong."""

    stream: ByteStream
    inbox: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def receive(self) -> tuple[int, bytes]:
        """Return type (flags cut off) and body of the next packet; EndOfStream or so at the end."""
        with anyio.fail_after(PATIENCE):
            while True:
                size = 0
                for position in range(1, min(5, len(self.inbox))):
                    size |= (self.inbox[position] & 0x7F) << 7 * (position - 1)
                    if not self.inbox[position] & 0x80:
                        end = position + 1 + size
                        if len(self.inbox) < end:
                            break
                        found = self.inbox[0] & 0xF0, self.inbox[position + 1 : end]
                        self.inbox = self.inbox[end:]
                        return found
                self.inbox += await self.stream.receive()

    async def expect(self, kind: int) -> bytes:
        while True:
            found, body = await self.receive()
            if found == kind:
                return body

    async def connect(self, client_id: str, **options: object) -> int:
        """Return CONNACK's code."""
        await self.send(connect_packet(client_id, **options))  # type: ignore[arg-type]
        return (await self.expect(CONNACK))[1]

    async def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Return SUBACK's code."""
        await self.send(packet(0x82, b"\x00\x07" + text(topic_filter) + bytes([qos])))
        return (await self.expect(SUBACK))[2]

    async def publish(self, topic: str, body: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish, and wait for the PUBACK where there is one."""
        ident = b"\x00\x09" if qos else b""
        await self.send(packet(PUBLISH | qos << 1 | retain, text(topic) + ident + body))
        if qos == 1:
            await self.expect(PUBACK)

    async def message(self) -> tuple[str, bytes, int]:
        """Return topic, payload and QoS of the next delivery."""
        while True:
            with anyio.fail_after(PATIENCE):
                found = await self._next_with_flags()
            if found is not None:
                return found

    async def _next_with_flags(self) -> tuple[str, bytes, int] | None:
        while not self.inbox:
            self.inbox = await self.stream.receive()
        qos = self.inbox[0] >> 1 & 3
        kind, body = await self.receive()
        if kind != PUBLISH:
            return None
        size = struct.unpack("!H", body[:2])[0]
        return body[2 : 2 + size].decode(), body[2 + size + (2 if qos else 0) :], qos

    async def hears_nothing(self) -> bool:
        """Return whether no message comes for a while."""
        with anyio.move_on_after(SILENCE):
            await self.message()
            return False
        return True

    async def is_closed(self) -> bool:
        """Return whether the other side closes, or has closed, the connection."""
        with anyio.move_on_after(PATIENCE):
            try:
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return True
        return False

    async def is_alive(self) -> bool:
        await self.send(b"\xc0\x00")
        await self.expect(PINGRESP)
        return True


@asynccontextmanager
async def raw_client(
    address: tuple[str, int] | None, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawClient]:
    assert address is not None
    if context is None:
        stream: ByteStream = await anyio.connect_tcp(*address)
    else:
        stream = await anyio.connect_tcp(
            *address, ssl_context=context, tls_hostname=address[0], tls_standard_compatible=False
        )
    try:
        yield RawClient(stream)
    finally:
        await anyio.aclose_forcefully(stream)


_NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
_KeyPair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass
class Authority:
    """A CA of the test's own, its certificates and files."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key, is_ca=True)

    @property
    def pem(self) -> bytes:
        return _pem(self.certificate)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(hours=1))
            .not_valid_after(_NOW + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            # Python 3.13 verifies strictly by RFC 5280, which asks for both.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(_usage(is_ca=is_ca), critical=True)
        )
        if not is_ca:
            address = x509.IPAddress(ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str) -> tuple[x509.Certificate, Path, Path]:
        """Return a certificate, and the files of it and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, is_ca=False)
        chain, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(_pem(certificate))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, chain, private

    def client_context(self, name: str | None) -> ssl.SSLContext:
        """Return the TLS side of a client called `name`; of one without certificate for None."""
        context = ssl.create_default_context(cadata=(self.folder / "server-ca.pem").read_text())
        if name is not None:
            _, chain, private = self.issue(name)
            context.load_cert_chain(chain, private)
        return context

    def crl(self, *revoked: x509.Certificate) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_NOW - dt.timedelta(hours=1))
            .next_update(_NOW + dt.timedelta(days=1))
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(_NOW)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass
class Certificates:
    """A maker's CA, a CA for our services, and a broker's certificate."""

    folder: Path

    def __post_init__(self) -> None:
        self.devices = Authority(self.folder, "maker CA")
        self.services = Authority(self.folder, "service CA")
        server = Authority(self.folder, "server CA")
        (self.folder / "server-ca.pem").write_bytes(server.pem)
        _, self.server_chain, self.server_key = server.issue("localhost")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates(folder)


@pytest.fixture(autouse=True)
def never_blocking() -> Iterator[None]:
    """Fail a test in which `broker` blocks the event loop."""
    with blockbuster_ctx("broker"):
        yield


def free_port() -> int:
    """Return a port that was free just now; mosquitto cannot be told to take any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


needs_mosquitto = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")


@asynccontextmanager
async def mosquitto(configuration: Path, port: int) -> AsyncIterator[anyio.abc.Process]:
    """Run mosquitto; the body runs once it listens on `port`."""
    program = shutil.which("mosquitto")
    assert program is not None
    process = await anyio.open_process([program, "-c", str(configuration)], stdout=None, stderr=None)
    try:
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await anyio.aclose_forcefully(await anyio.connect_tcp("127.0.0.1", port))
                    break
                except OSError:
                    assert process.returncode is None, "mosquitto does not start"
                    await anyio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        with anyio.CancelScope(shield=True):
            await process.aclose()
