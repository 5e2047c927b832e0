"""`trillium device`: one device enrolls, rekeys, sends or tells what it holds, over any transport."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from agents.cli.failure import USAGE, Failure, say
from agents.cli.output import console, facts, print_json, table, waiting
from agents.cli.passphrase import passphrase_from
from agents.cli.transports import connect
from agents.devices.agent import Device, DeviceError
from agents.devices.errands import MAX_OWNERS
from agents.devices.gateway import GATEWAY
from agents.devices.holding import report_held
from agents.devices.identity import BOOTSTRAP_KEY, Identity, IdentityError
from agents.devices.keystore import StoreError
from agents.devices.meter import METER
from agents.devices.status import LabelStatus
from agents.inspect.words import day, moment
from protocol import c509
from protocol.errors import ExchangeTimeout, OwnerChanged, ProblemKind, RequestRejected, Unreachable
from protocol.exchange.device import State
from protocol.exchange.device_pace import Patience
from protocol.labels import Operation
from protocol.message import STREAM
from protocol.ports import Content, DeviceTransport, Outbound
from protocol.problem import Problem
from protocol.profiles import PROFILES, profile_of, services_of

T = TypeVar("T")
STREAMS: Final = {actor.bootstrap: actor.stream for actor in (METER, GATEWAY)}
"""Where a device's messages go unless another stream is named, by its tier 1 label."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which device, and how it reaches its authority."""

    folder: Path
    via: str
    passphrase_file: Path | None
    timeout: float
    """Seconds until a command gives up; what was begun goes on at the next one."""

    @contextmanager
    def open(self) -> Generator[tuple[Device, bytes | None], None, None]:
        """Open the device and return it with the passphrase of its keys.

        Raises:
            Failure: Not an identity folder, in use, or the passphrase is wrong.
        """
        try:
            identity = Identity.load(self.folder)
            passphrase = self._passphrase(identity)
            with Device.open(self.folder, passphrase, patience=_patience(self.timeout)) as device:
                yield device, passphrase
        except (IdentityError, StoreError, DeviceError) as error:
            raise Failure(str(error)) from None

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[tuple[Device, DeviceTransport], None]:
        """Open the device and connect it to its authority: where the owner before said, or at `via`."""
        with self.open() as (device, passphrase):
            async with connect(self._way(device), device.identity, passphrase) as transport:
                yield device, transport

    def _way(self, device: Device) -> str:
        at = device.status().at
        if at is None or at == self.via:
            return self.via
        say(f"{device.identity.device}: its owner's authority is at {at}; going there")
        return at

    async def at_home(self, act: Callable[[Device, DeviceTransport], Awaitable[T]]) -> T:
        """Open the device and let it act at its authority; if its owner changes, at the next one."""
        with self.open() as (device, passphrase):
            for _ in range(MAX_OWNERS):
                async with connect(self._way(device), device.identity, passphrase) as transport:
                    try:
                        return await act(device, transport)
                    except OwnerChanged as change:
                        if change.at is None:
                            raise
        raise Failure(f"{self.folder.name}: {MAX_OWNERS} owners, one after the other")

    def _passphrase(self, identity: Identity) -> bytes | None:
        try:
            is_encrypted = b"ENCRYPTED" in (identity.folder / BOOTSTRAP_KEY).read_bytes()[:64]
        except OSError as error:
            raise IdentityError(f"{identity.folder / BOOTSTRAP_KEY}: {error.strerror}") from None
        if not is_encrypted:
            return None
        return passphrase_from(self.passphrase_file, what=f"device {identity.device}")


def _patience(timeout: float) -> Patience:
    return Patience(answer=min(8.0, timeout), pause=1.0, longest_pause=10.0, give_up=timeout)


def enroll(target: Target, label: str | None, *, as_json: bool) -> None:
    """Get a first certificate, or recover."""
    anyio.run(_obtain, target, label, Operation.SEN, as_json)


def rekey(target: Target, label: str | None, *, as_json: bool) -> None:
    """Replace a key and its certificate."""
    anyio.run(_obtain, target, label, Operation.SREN, as_json)


async def _obtain(target: Target, label: str | None, op: Operation, as_json: bool) -> None:
    async def act(device: Device, transport: DeviceTransport) -> tuple[str, str, c509.Certificate]:
        name, wanted = device.identity.device, _label(device, label)
        obtain = device.enroll if op is Operation.SEN else device.rekey
        with waiting(f"{name} {wanted}") as tell, in_words(target, device):
            return name, wanted, await obtain(wanted, transport, progress=_progress(tell))

    name, wanted, certificate = await target.at_home(act)
    told = {"device": name, "label": wanted, **_certificate_json(certificate)}
    if as_json:
        print_json(told)
        return
    verb = "enrolled" if op is Operation.SEN else "rekeyed"
    console().print(
        f"{verb} {wanted} for {name}: serial {told['serial']}, "
        f"{'no expiry' if certificate.not_after is None else 'until ' + moment(certificate.not_after)}"
    )


def _progress(say: Callable[[str], None]) -> Callable[[str, State], None]:
    return lambda _, state: say(state.value)


def _certificate_json(certificate: c509.Certificate) -> dict[str, Any]:
    return {
        "serial": certificate.serial.hex(),
        "thumbprint": c509.thumbprint(certificate.encoded).hex(),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "bytes": len(certificate.encoded),
        "certificate": certificate.encoded.hex(),
    }


def _label(device: Device, label: str | None) -> str:
    if label is None:
        return device.first_label
    domain = device.identity.domain
    permitted = ", ".join(services_of(device.identity.label))
    if label not in PROFILES:
        raise Failure(f"--label {label}: no such label; this device can have {permitted}", USAGE)
    if profile_of(label).domain is not domain:
        other = profile_of(label).domain
        raise Failure(
            f"--label {label} is of {other}, this device of {domain}: it can have {permitted}", USAGE
        )
    if label not in services_of(device.identity.label):
        raise Failure(f"--label {label} is not for {device.identity.label}: it can have {permitted}", USAGE)
    return label


@contextmanager
def in_words(target: Target, device: Device) -> Generator[None, None, None]:
    """Turn what ends an exchange into a line for people."""
    try:
        yield
    except ExchangeTimeout:
        message = (
            f"no usable answer from {target.via} in {target.timeout:g} s; calling again goes on from here"
        )
        raise Failure(message) from None
    except RequestRejected as error:
        if error.reason is ProblemKind.NOT_FOUND:
            raise Failure(f"{target.via} does not serve that: {error}") from None
        raise
    except DeviceError as error:
        raise Failure(f"{device.identity.device}: {error}") from None


def send(target: Target, stream: str | None, message: bytes, count: int, *, as_json: bool) -> None:
    """Send signed messages."""
    if stream is not None and not STREAM.fullmatch(stream):
        raise Failure(f"--stream {stream}: 1 to 32 of 0-9 a-z _ -", USAGE)
    anyio.run(_send, target, stream, message, count, as_json)


async def _send(target: Target, stream: str | None, message: bytes, count: int, as_json: bool) -> None:
    sizes: list[int] = []

    async def act(device: Device, transport: DeviceTransport) -> tuple[str, str]:
        name, into = device.identity.device, stream or STREAMS[device.identity.label]
        with waiting(f"{name} to {into}") as tell, in_words(target, device):
            while len(sizes) < count:
                tell(f"message {len(sizes) + 1} of {count}")
                sizes.append(await device.send(into, message, transport))
        return name, into

    name, into = await target.at_home(act)
    told = {"device": name, "stream": into, "sent": count, "bytes": sum(sizes)}
    if as_json:
        print_json(told)
        return
    taken = "taken for verification" if target.via.startswith("coap") else "taken by the broker"
    console().print(f"{name}: {count} to {into}, {sum(sizes)} bytes, {taken}")


def report(target: Target, *, as_json: bool) -> None:
    """Tell the authority what a device holds."""
    anyio.run(_report, target, as_json)


async def _report(target: Target, as_json: bool) -> None:
    async with target.connected() as (device, transport):
        with waiting(f"{device.identity.device} reports") as say, in_words(target, device):
            say("sending")
            said = await report_held(device, transport)
    if as_json:
        print_json(
            {
                "device": device.identity.device,
                "authority": said.authority.hex(),
                "epoch": said.epoch,
                "anchors": [anchor.hex() for anchor in said.anchors],
                "chain": [one.hex() for one in said.chain],
                "crl_number": said.crl_number,
                "certificates": [
                    {"label": one.label, "thumbprint": one.thumbprint.hex(), "state": one.state.name.lower()}
                    for one in said.certificates
                ],
            }
        )
        return
    labels = ", ".join(one.label for one in said.certificates)
    console().print(f"{device.identity.device} reported {len(said.certificates)} certificates: {labels}")


def status(target: Target, *, as_json: bool) -> None:
    """Tell what a device holds; with a `via`, also whether its authority answers there."""
    with target.open() as (device, passphrase):
        held = device.status()
        answers = anyio.run(_ask_authority, target, device, passphrase) if target.via else None
    if as_json:
        told: dict[str, Any] = {
            "device": held.device,
            "label": held.label,
            "domain": held.domain.value,
            "client_id": held.client_id,
            "authority": held.authority.hex(),
            "epoch": held.epoch,
            "at": held.at,
            "labels": [_label_json(one) for one in held.labels],
        }
        print_json(told if answers is None else told | {"answers": answers == "yes"})
        return
    rows = [
        ("device", held.device),
        ("identity", f"{held.label}, client-id {held.client_id}"),
        ("owner", f"authority {held.authority.hex()[:16]}…, epoch {held.epoch}"),
    ]
    if held.at is not None:
        rows.append(("owner at", held.at))
    if answers is not None:
        rows.append(("answers", answers))
    out = console()
    out.print(facts(rows))
    out.print()
    if not held.labels:
        out.print("nothing enrolled yet")
        return
    out.print(
        table(("label", "serial", "valid until", "now", "pending"), [_label_row(one) for one in held.labels])
    )


def _label_json(held: LabelStatus) -> dict[str, Any]:
    return {
        "label": held.label,
        "serial": None if held.serial is None else held.serial.hex(),
        "thumbprint": None if held.thumbprint is None else held.thumbprint.hex(),
        "not_before": held.not_before,
        "not_after": held.not_after,
        "validity": None if held.validity is None else held.validity.value,
        "rekey_due": held.is_rekey_due,
        "pending": None
        if held.pending is None
        else {"op": held.pending.op.value, "phase": held.pending.phase.value},
    }


def _label_row(held: LabelStatus) -> tuple[str, ...]:
    now = (
        "" if held.validity is None else held.validity.value + (", rekey is due" if held.is_rekey_due else "")
    )
    return (
        held.label,
        "none" if held.serial is None else held.serial.hex(),
        "" if held.serial is None else day(held.not_after),
        now,
        "" if held.pending is None else f"{held.pending.op.value} {held.pending.phase.value}",
    )


async def _ask_authority(target: Target, device: Device, passphrase: bytes | None) -> str:
    try:
        async with connect(target.via, device.identity, passphrase) as transport:
            with anyio.move_on_after(min(target.timeout, 10.0)):
                match await transport.exchange(Outbound(device.first_label, Operation.CRTS)):
                    case Content():
                        return "yes"
                    case Problem() as problem:
                        return f"no: {problem.detail or problem.kind.name.lower()}"
                    case _:
                        return "not now"
    except Unreachable as error:
        return f"no: {error}"
    return "no: no answer"
