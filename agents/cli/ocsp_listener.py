"""`serve --ocsp`: OCSP and revocation lists over HTTP, beside the same authority."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.authority import AuthorityAgent
from agents.cli.addresses import Address, as_text
from agents.ocsp import open_responder, serve


@asynccontextmanager
async def listening(
    authority: AuthorityAgent, directory: Path, passphrase: bytes, bind: Address
) -> AsyncIterator[str]:
    """Answer while the body runs; yields the URI.

    Raises:
        BadDirectory: The responder's key cannot be read or written.
        OSError: The address is taken.
    """
    # Certificates name the list after the CA, as Settings.pointers has it.
    names = {
        authority.settings.lines(domain).operator[-1].name: found
        for domain, found in authority.authorities.items()
    }
    async with (
        open_responder(authority, directory, passphrase) as responder,
        serve(responder, authority, bind=bind, names=names, clock=time.time) as server,
    ):
        yield f"http://{as_text(server.address)}/ocsp"
