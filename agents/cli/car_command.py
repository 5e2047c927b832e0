"""`trillium car plug`: a car at a charging station."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.charging.car import Contract, Visit, plug_in
from agents.charging.encounter import StationSeen
from agents.cli.addresses import as_text, parse_uri
from agents.cli.device_command import Target
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, facts, print_json, waiting
from agents.inspect.words import moment
from constrained.client import connect
from protocol import c509
from protocol.errors import EnrollmentError, ExchangeTimeout
from protocol.validator import PathRejected

_DER: Final = b"\x30"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for besides."""

    known_as: str | None
    roots: tuple[Path, ...]
    strict: bool
    renew: bool


def plug(target: Target, wishes: Wishes, *, as_json: bool) -> None:
    """Plug a car in and tell what it holds then.

    Raises:
        Failure: The station is not one, or there is no contract.
    """
    address = _uri(target.via, "--at")
    known_as = address if wishes.known_as is None else _uri(wishes.known_as, "--known-as")
    roots = [_root(file) for file in wishes.roots]
    visit = anyio.run(_plug, target, known_as, roots, wishes)
    if as_json:
        print_json(_visit_json(visit))
        return
    out = console()
    out.print(facts(_station_rows(visit.station)))
    for contract in visit.contracts:
        out.print()
        out.print(facts(_contract_rows(contract)))
    if not visit.contracts:
        out.print("\nno contract")


def _uri(text: str, option: str) -> str:
    scheme, address = parse_uri(text, option, ("coap",))
    return f"{scheme}://{as_text(address)}"


def _root(file: Path) -> c509.Certificate:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(f"--root {file}: {error.strerror}", USAGE) from None
    try:
        if data.startswith(b"-----"):
            data = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        return c509.from_der(data) if data.startswith(_DER) else c509.decode_certificate(data)
    except (EnrollmentError, ValueError) as error:
        raise Failure(f"--root {file} is no certificate: {error}", USAGE) from None


async def _plug(target: Target, address: str, roots: list[c509.Certificate], wishes: Wishes) -> Visit:
    with target.open() as (device, _):
        async with connect(target.via) as transport:
            with waiting(f"{device.identity.device} at {target.via}") as say:
                say("who is there")
                try:
                    return await plug_in(
                        device,
                        transport,
                        address=address,
                        roots=roots,
                        needs_status=wishes.strict,
                        renews=wishes.renew,
                        progress=lambda _, state: say(state.value),
                    )
                except PathRejected as error:
                    why = "; ".join(finding.sentence for finding in error.findings)
                    raise Failure(f"the station at {target.via} is refused: {why}", REFUSED) from None
                except ExchangeTimeout as error:
                    raise Failure(
                        f"{target.via}: {error}; plugging in again goes on from here", REFUSED
                    ) from None


def _station_rows(seen: StationSeen) -> list[tuple[str, str]]:
    status = "not revoked" if seen.is_status_known else "nobody says whether it is revoked"
    shown = f"certificate {_words(seen.certificate)}, {seen.verdict.value}, {status}"
    return [
        ("station", f"{seen.seccid} at {seen.address}"),
        ("place", seen.evse or "without a name"),
        ("shown", shown),
    ]


def _contract_rows(contract: Contract) -> list[tuple[str, str]]:
    return [
        ("contract", f"{contract.emaid} ({contract.label}), {'new' if contract.is_new else 'held'}"),
        ("certificate", f"{_words(contract.certificate)}, {contract.verdict.value}"),
    ]


def _words(certificate: c509.Certificate) -> str:
    end = certificate.not_after
    return f"{certificate.serial.hex()}, {'no end' if end is None else 'until ' + moment(end)}"


def _visit_json(visit: Visit) -> dict[str, Any]:
    seen = visit.station
    return {
        "station": {
            "seccid": seen.seccid,
            "evse": seen.evse,
            "address": seen.address,
            "serial": seen.certificate.serial.hex(),
            "not_after": seen.certificate.not_after,
            "validity": seen.verdict.value,
            "status_known": seen.is_status_known,
        },
        "contracts": [
            {
                "label": one.label,
                "emaid": one.emaid,
                "serial": one.certificate.serial.hex(),
                "not_after": one.certificate.not_after,
                "validity": one.verdict.value,
                "new": one.is_new,
            }
            for one in visit.contracts
        ],
    }
