"""`trillium broker export mosquitto`: the inventory as access rules, the revocations as lists."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agents.authority import (
    BadDirectory,
    DeviceDetail,
    Layout,
    Store,
    WrongStore,
    list_devices,
    read_settings,
    show_device,
)
from agents.authority import open_store as open_authority_store
from agents.authority.pki import HASHES
from agents.cli.addresses import Address, as_text
from agents.cli.broker_files import SERVICE, BrokerFiles
from agents.cli.failure import REFUSED, Failure
from agents.cli.output import console, facts, print_json, progress
from agents.cli.passphrase import passphrase_from
from agents.keys import load_private_key
from broker.mosquitto import ExportDevice, ExportListener, ExportServer, export
from protocol.errors import EnrollmentError
from protocol.exchange.facts import CertificateState
from protocol.labels import Domain, Tier
from protocol.profiles import profile_of

CRL_DAYS: Final = 30
"""How long a list is good: once it is over mosquitto refuses everybody, so not too short."""


def mosquitto(
    directory: Path,
    out: Path,
    *,
    devices_at: Address,
    services_at: Address,
    tls_names: tuple[str, ...],
    run_as: str | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Write a configuration into `out`, over an older one.

    Raises:
        Failure: Not an authority's directory, a wrong passphrase, names that mosquitto cannot tell apart.
    """
    try:
        settings = read_settings(directory)
        passphrase = passphrase_from(passphrase_file)
        files = BrokerFiles(directory, settings)
        chain, key = files.server((devices_at[0], *tls_names), passphrase)
        files.service(passphrase)
        with open_authority_store(directory) as store:
            details = _details(store)
            crl = b"".join(_crls(directory, domain, details, passphrase) for domain in settings.domains)
        welcome = [_exported(device) for device in details if _current_tiers(device)]
        configuration = export(
            out,
            devices=welcome,
            device_listener=ExportListener(*devices_at, files.device_anchors()),
            service_listener=ExportListener(*services_at, files.service_ca(passphrase).read_bytes()),
            services=(SERVICE,),
            server=ExportServer(chain.read_bytes(), _in_clear(key, passphrase)),
            device_crl=crl,
            run_as=run_as,
        )
    except (BadDirectory, WrongStore, ValueError, EnrollmentError) as error:
        raise Failure(str(error), REFUSED) from None
    serve = f"trillium serve {directory} --broker mqtts://{as_text(services_at)}"
    if as_json:
        print_json(
            {
                "configuration": str(configuration),
                "devices": len(welcome),
                "devices_at": as_text(devices_at),
                "services_at": as_text(services_at),
            }
        )
        return
    out_console = console()
    out_console.print(f"wrote {configuration} for {len(welcome)} devices", soft_wrap=True)
    out_console.print(facts([("start it", f"mosquitto -c {configuration}"), ("then", serve)]), soft_wrap=True)


def _details(store: Store) -> list[DeviceDetail]:
    found = list_devices(store)
    details: list[DeviceDetail] = []
    with progress("reading the inventory", len(found)) as advance:
        for number, device in enumerate(found, start=1):
            details.append(show_device(store, device.client_id))
            advance(number)
    return details


def _current_tiers(device: DeviceDetail) -> list[Tier]:
    return [
        profile_of(held.label).tier for held in device.certificates if held.state is CertificateState.CURRENT
    ]


def _exported(device: DeviceDetail) -> ExportDevice:
    return ExportDevice(device.name, device.client_id, max(_current_tiers(device)))


def _in_clear(key: Path, passphrase: bytes) -> bytes:
    """Return the broker's key as mosquitto reads it: it cannot be asked for a passphrase."""
    loaded = load_pem_private_key(key.read_bytes(), passphrase)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _crls(directory: Path, domain: Domain, devices: list[DeviceDetail], passphrase: bytes) -> bytes:
    """Return the lists of a domain's maker and operator, PEM.

    mosquitto wants one from each CA that issued a certificate it is shown. They are made here, because the
    published ones are the operators' alone, and are over after a week.
    """
    layout = Layout(directory)
    found: list[bytes] = []
    for folder, name in ((layout.maker(domain), "maker"), (layout.operator(domain), "operator")):
        pem = layout.certificate(f"{domain.value}-{name}").read_bytes()
        issuer = x509.load_pem_x509_certificate(pem)
        key = load_private_key(folder / "ca.key", passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadDirectory(f"{folder / 'ca.key'}: a key of another kind than is used here")
        spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        authority = hashlib.sha256(spki).digest()
        ended = [
            (int.from_bytes(held.serial, "big"), held.ended_at or 0)
            for device in devices
            for held in device.certificates
            if held.authority == authority and held.state in _LISTED
        ]
        found.append(_crl(issuer.subject, key, ended))
    return b"".join(found)


_LISTED: Final = frozenset({CertificateState.REVOKED, CertificateState.SUPERSEDED})


def _crl(issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ended: list[tuple[int, int]]) -> bytes:
    now = dt.datetime.now(dt.UTC)
    entries = [
        x509.RevokedCertificateBuilder()
        .serial_number(serial)
        .revocation_date(dt.datetime.fromtimestamp(since, dt.UTC))
        .build()
        for serial, since in ended
    ]
    # One by one each entry would copy the list so far.
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=issuer,
        last_update=now - dt.timedelta(minutes=5),
        next_update=now + dt.timedelta(days=CRL_DAYS),
        revoked_certificates=entries,
    )
    signed = builder.add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    return signed.sign(key, HASHES[key.curve.name]).public_bytes(Encoding.PEM)
