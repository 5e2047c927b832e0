"""`trillium station serve`: a charging station, its CoAP endpoint for cars, its way to the back end."""

import ipaddress
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from agents.charging.errands import Bounds
from agents.charging.journal import open_journal
from agents.charging.station import Post, open_station
from agents.cli.addresses import Address, as_text, parse_uri
from agents.cli.device_command import Target
from agents.cli.ending import stoppable
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.serve_counts import print_line
from agents.cli.transports import SCHEMES, way_to_back_end
from agents.devices.bearer import DeviceError
from constrained import server as coap_server
from constrained.server import Limits
from protocol.ev.station_proof import MAX_EVSE_CHARS

PATIENCE: Final = 300.0
"""Seconds that an attempt at the station's own certificate takes at most; another one follows."""
_BOUNDS: Final = Bounds()
LIMITS: Final = Limits(
    uploads=4 * _BOUNDS.cars,
    downloads=2 * _BOUNDS.cars,
    exchanges=64 * _BOUNDS.cars,
    in_work=4 * _BOUNDS.cars,
    in_work_of_source=2 * _BOUNDS.cars,
    unacknowledged=4 * _BOUNDS.cars,
)
"""A station has a few plugs: the endpoint holds some of everything for each car that is served at once."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    identities: tuple[Path, ...]
    via: str
    coap: Address
    evse: str
    known_as: str | None
    journal: Path | None
    passphrase_file: Path | None
    until_eof: bool

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened.

        Raises:
            Failure: Why.
        """
        parse_uri(self.via, "--via", SCHEMES)
        if len(self.evse) > MAX_EVSE_CHARS or not self.evse.isprintable():
            raise Failure(f"--evse: at most {MAX_EVSE_CHARS} characters that can be printed", USAGE)
        if self.known_as is not None:
            parse_uri(self.known_as, "--known-as", ("coap",))
        elif _is_everywhere(self.coap[0]):
            raise Failure(
                f"--coap {as_text(self.coap)}: cars compare where they are with where the station says that "
                "it is; listening everywhere, it has to be told by --known-as",
                USAGE,
            )


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def run(options: Options, log: Callable[[], None]) -> None:
    """Serve cars until SIGTERM or SIGINT.

    Args:
        options: What was asked for.
        log: Starts logging, once it is clear that there will be something to log.

    Raises:
        Failure: It cannot start; nothing is left running.
    """
    options.check()
    log()
    anyio.run(_serve, options)


async def _serve(options: Options) -> None:
    async with stoppable(until_eof=options.until_eof) as stopped, AsyncExitStack() as stack:
        posts: list[Post] = []
        for folder in options.identities:
            target = Target(folder, options.via, options.passphrase_file, PATIENCE)
            device, passphrase = stack.enter_context(target.open())
            back = await stack.enter_async_context(way_to_back_end(options.via, device.identity, passphrase))
            posts.append(Post(device, back))
        journal = await stack.enter_async_context(open_journal(options.journal, evse=options.evse))
        try:
            station = await stack.enter_async_context(
                open_station(posts, evse=options.evse, bounds=_BOUNDS, journal=journal)
            )
        except DeviceError as error:
            raise Failure(str(error), USAGE) from None
        endpoint = coap_server.serve(
            station.handle, station.labels, bind=options.coap, limits=LIMITS, proofs=station.proofs
        )
        try:
            server = await stack.enter_async_context(endpoint)
        except OSError as error:
            raise Failure(f"--coap {as_text(options.coap)}: {error.strerror or error}", REFUSED) from None
        station.address = options.known_as or server.uris[0]
        print_line(f"ready {server.uris[0]}")
        await stopped.wait()
