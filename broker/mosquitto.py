"""The access rules as a mosquitto configuration: mutual TLS, one stanza per client, CRL.

mosquitto knows a client by the common name of its certificate, our topics by its client-id; the access
file maps one to the other. Devices and our own services come in by different listeners with different
CA certificates, because a maker may write any name it likes into its devices' certificates, ours too.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.access import Action, Role, filters
from broker.topics import check_client_id
from protocol.labels import Tier

CONFIGURATION: Final = "mosquitto.conf"
DEVICES_ACCESS: Final = "devices.acl"
SERVICES_ACCESS: Final = "services.acl"
CRL: Final = "crl.pem"

_COMMON_NAME: Final = re.compile(r"[^\x00-\x1f\x7f+#/]{1,64}")
_ACCESS: Final = {Action.PUBLISH: "write", Action.SUBSCRIBE: "read"}


@dataclass(frozen=True, slots=True)
class ExportDevice:
    """A device as mosquitto shall know it."""

    common_name: str
    """Of the subject of its TLS client certificate."""
    client_id: str
    tier: Tier
    """The highest that it has."""


@dataclass(frozen=True, slots=True)
class ExportListener:
    """Where mosquitto listens, and whose certificates it takes there."""

    host: str
    port: int
    client_ca: bytes
    """PEM."""


@dataclass(frozen=True, slots=True)
class ExportServer:
    """What mosquitto shows to its clients."""

    certificate: bytes
    """PEM, its own certificate first."""
    key: Path | bytes = field(repr=False)
    """Private key: an existing file, or PEM to be written beside the configuration."""


def export(  # noqa: PLR0913 (a configuration has as many parts)
    directory: Path,
    *,
    devices: Iterable[ExportDevice],
    device_listener: ExportListener,
    service_listener: ExportListener,
    services: Iterable[str],
    readers: Iterable[str] = (),
    server: ExportServer,
    device_crl: bytes | None = None,
    run_as: str | None = None,
) -> Path:
    """Write a configuration for mosquitto 2 into `directory`, over an older one if there is one.

    A running mosquitto reads access files and CRL again on SIGHUP. Paths in it are absolute, so that it
    works wherever mosquitto is started; a moved folder is exported again.

    Args:
        directory: Made if it is missing.
        devices: Who may connect to `device_listener` and do anything there. Others whose certificates
            are valid may connect, and nothing more.
        device_listener: For devices.
        service_listener: For our services and readers; its CA must certify nobody else.
        services: Common names of our services' certificates.
        readers: Common names of those who may read what was verified.
        server: mosquitto's own certificate and key, for both listeners.
        device_crl: PEM, one CRL for each CA that issues devices' certificates.
        run_as: Account that mosquitto changes to when root starts it; None leaves its default.

    Returns:
        Path of the configuration: `mosquitto -c <path>`.

    Raises:
        ValueError: A name or client-id cannot be written safely, or two devices share one but not the
            other: mosquitto could not tell them apart.
        MalformedMessage: A client-id that cannot be one.
        OSError: A file cannot be written.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / DEVICES_ACCESS, _device_stanzas(devices).encode())
    _write(directory / SERVICES_ACCESS, _service_stanzas(services, readers).encode())
    _write(directory / "device-ca.pem", device_listener.client_ca)
    _write(directory / "service-ca.pem", service_listener.client_ca)
    _write(directory / "server.pem", server.certificate)
    if isinstance(server.key, bytes):
        _write(directory / "server.key", server.key)
        key = directory / "server.key"
    else:
        key = server.key.resolve()
    if device_crl is not None:
        write_crl(directory, device_crl)
    text = _configuration(
        directory, device_listener, service_listener, key, has_crl=device_crl is not None, run_as=run_as
    )
    _write(directory / CONFIGURATION, text.encode())
    return directory / CONFIGURATION


def write_crl(directory: Path, crl: bytes) -> None:
    """Replace the CRL of an exported configuration; mosquitto reads it on SIGHUP.

    Args:
        directory: As in `export`.
        crl: PEM, one CRL for each CA that issues devices' certificates.
    """
    _write(directory.resolve() / CRL, crl)


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by its owner alone: mosquitto may read it at any moment."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _device_stanzas(devices: Iterable[ExportDevice]) -> str:
    by_name: dict[str, ExportDevice] = {}
    by_client: dict[str, ExportDevice] = {}
    for device in devices:
        _check_name(device.common_name)
        check_client_id(device.client_id)
        same_name = by_name.get(device.common_name, device)
        same_client = by_client.get(device.client_id, device)
        if same_name.client_id != device.client_id:
            msg = (
                f"{same_name.client_id} and {device.client_id} are both named {device.common_name!r} "
                "in their certificates: mosquitto could not tell them apart"
            )
            raise ValueError(msg)
        if same_client.common_name != device.common_name:
            names = f"{same_client.common_name!r} and {device.common_name!r}"
            msg = f"{names} share the client-id {device.client_id}"
            raise ValueError(msg)
        if device.tier >= same_name.tier:
            by_name[device.common_name] = by_client[device.client_id] = device
    return "\n".join(
        _stanza(each.common_name, Role.of(each.tier), each.client_id) for each in by_name.values()
    )


def _service_stanzas(services: Iterable[str], readers: Iterable[str]) -> str:
    roles: dict[str, Role] = {}
    for role, names in ((Role.SERVICE, services), (Role.READER, readers)):
        for name in names:
            if roles.setdefault(_check_name(name), role) is not role:
                msg = f"{name!r} is named as a service and as a reader"
                raise ValueError(msg)
    return "\n".join(_stanza(name, role, "") for name, role in roles.items())


def _stanza(name: str, role: Role, client_id: str) -> str:
    rules = [
        f"topic {word} {topic_filter}"
        for action, word in _ACCESS.items()
        for topic_filter in filters(role, action, client_id)
    ]
    return "\n".join([f"user {name}", *rules, ""])


def _check_name(name: str) -> str:
    # The access file is made of lines and words, and mosquitto distrusts wildcards in names.
    if not _COMMON_NAME.fullmatch(name) or name != name.strip():
        msg = f"{name!r} cannot be the name of a mosquitto user"
        raise ValueError(msg)
    return name


def _configuration(
    directory: Path,
    devices: ExportListener,
    services: ExportListener,
    key: Path,
    *,
    has_crl: bool,
    run_as: str | None,
) -> str:
    shared = [
        f"certfile {directory / 'server.pem'}",
        f"keyfile {key}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
    ]
    lines = [
        "# Written by trillium; changes are lost at the next export.",
        *([f"user {run_as}"] if run_as is not None else []),
        "per_listener_settings true",
        "# Without it a QoS 1 exchange takes 44 ms instead of 0.2.",
        "set_tcp_nodelay true",
        "persistence false",
        "retain_available false",
        "sys_interval 0",
        "max_packet_size 65792",
        "max_inflight_messages 1000",
        "max_queued_messages 1000",
        "max_queued_bytes 1048576",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "",
        f"listener {devices.port} {devices.host}",
        "max_connections 5000",
        *shared,
        f"cafile {directory / 'device-ca.pem'}",
        *([f"crlfile {directory / CRL}"] if has_crl else []),
        "# No device can end another's connection by calling itself the same.",
        "use_username_as_clientid true",
        f"acl_file {directory / DEVICES_ACCESS}",
        "",
        f"listener {services.port} {services.host}",
        "max_connections 100",
        *shared,
        f"cafile {directory / 'service-ca.pem'}",
        f"acl_file {directory / SERVICES_ACCESS}",
        "",
    ]
    for line in lines:
        if "\n" in line or "\r" in line:
            msg = f"cannot be written into a configuration: {line!r}"
            raise ValueError(msg)
    return "\n".join(lines)
