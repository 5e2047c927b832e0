"""Gives devices from one authority to another in a process of its own, that somebody else will kill."""

from multiprocessing.connection import Connection
from pathlib import Path

from agents.authority import Layout, Store, ownership, reception
from agents.authority.acceptance import accept_bundle
from agents.authority.bundles import make_bundles, open_giver
from agents.authority.owners import find_owner
from agents.authority.ownership import transfer_devices
from agents.keys import write_atomically
from protocol.labels import Domain
from tests.owners_world import NOW, PASSPHRASE

READY, DONE = b"ready", b"done"
GROUP = 1
"""Devices in a transaction: small, so that there are many."""


def run(giver: Path, receiver: Path, words: list[str], paper: Path, pipe: Connection) -> None:
    """Transfer, write the paper, import it; all of it can be done again."""
    for module in (ownership, reception):
        setattr(module, "GROUP", GROUP)  # noqa: B010 (a constant for everybody else)
    old, new = Store(Layout(giver).store), Store(Layout(receiver).store)
    givers = {Domain.METERING: open_giver(giver, Domain.METERING, PASSPHRASE)}
    pipe.send_bytes(READY)
    transfer_devices(
        old, words, find_owner(giver, receiver.name).receiver(), givers, now=NOW, approved_by="alice"
    )
    (bundle,) = make_bundles(giver, old, words, PASSPHRASE)
    write_atomically(paper, bundle)
    accept_bundle(
        new,
        receiver,
        paper.read_bytes(),
        now=NOW,
        approved_by="bob",
        giver=lambda domain: open_giver(receiver, domain, PASSPHRASE),
    )
    pipe.send_bytes(DONE)
