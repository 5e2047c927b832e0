"""`trillium transfer`, `reset`, `replace-key`, `voucher` and `import-transfer`: devices change hands."""

import getpass
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from agents import authority
from agents.authority import BadDirectory, InventoryError, Layout, Store, WrongStore, read_settings
from agents.authority.acceptance import accept_bundle
from agents.authority.bundles import make_bundles, open_giver
from agents.authority.maker_paths import verified_makers
from agents.authority.owners import find_owner
from agents.authority.ownership import MAX_NAME_CHARS, Giver, Handed, reset_devices, transfer_devices
from agents.authority.possession import Held, find_devices
from agents.authority.tier1 import replace_certificate
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.inventory_command import reason_of
from agents.cli.output import console, print_json, progress
from agents.cli.passphrase import passphrase_from
from agents.cli.tier1_file import read_tier1
from agents.keys import write_atomically
from protocol.cose import PublicKey
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.problem import ADDRESS

SIGNERS: Final = ("authority", "maker")
"""Who may sign vouchers."""
TRANSFERS: Final = "transfers"
"""Folder in an authority's directory for bundles that nobody asked for elsewhere."""


@contextmanager
def _opened(directory: Path) -> Generator[Store, None, None]:
    try:
        with authority.open_store(directory) as store:
            yield store
    except (BadDirectory, WrongStore, InventoryError) as error:
        raise Failure(str(error), REFUSED) from None


def words_from(devices: Sequence[str], file: Path | None) -> list[str]:
    """Return the devices that were named, on the command line or one in each line of a file.

    Raises:
        Failure: The file cannot be read, or nobody was named.
    """
    words = list(devices)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"--file {file}: {error}", USAGE) from None
        words += [line.split("#", 1)[0].strip() for line in lines]
    words = list(dict.fromkeys(word for word in words if word))
    if not words:
        raise Failure("which devices? name them, or a --file with one in each line", USAGE)
    return words


def approver(name: str | None) -> str:
    """Return who answers for what is done: who was named, or who is logged in here.

    Raises:
        Failure: Not a name.
    """
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            raise Failure("--approved-by: nobody is logged in here, so say who approves", USAGE) from None
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise Failure(f"--approved-by: 1 to {MAX_NAME_CHARS} printable characters, please", USAGE)
    return name


def _givers(directory: Path, devices: Sequence[Held], passphrase: bytes, by: str) -> dict[Domain, Giver]:
    domains = dict.fromkeys(device.domain for device in devices)
    return {domain: open_giver(directory, domain, passphrase, by_maker=by == "maker") for domain in domains}


def transfer(  # noqa: PLR0913 (a command has as many options)
    directory: Path,
    words: Sequence[str],
    to: str,
    *,
    by: str,
    at: str | None,
    approved_by: str,
    out: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Give devices to another owner; for another authority, write the bundle that it imports.

    Raises:
        Failure: Why not; what was done before is told.
    """
    if by not in SIGNERS:
        raise Failure(f"--by {by}: {' or '.join(SIGNERS)}", USAGE)
    if at is not None and not ADDRESS.fullmatch(at):
        raise Failure(f"--at {at}: expected coap://HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT", USAGE)
    with _opened(directory) as store:
        receiver = find_owner(directory, to).receiver(at)
        devices = find_devices(store, words)
        passphrase = passphrase_from(passphrase_file)
        givers = _givers(directory, devices, passphrase, by)
        with progress(f"to {receiver.name}", len(devices)) as advance:
            handed = transfer_devices(
                store,
                [device.client_id for device in devices],
                receiver,
                givers,
                now=int(time.time()),
                approved_by=approved_by,
                progress=advance,
            )
        bundles: list[Path] = []
        if receiver.authorities:
            # After the commit, from what the store says: whoever loses it, or is interrupted here, makes it
            # anew by the same command, or by `trillium voucher --transfer`.
            made = make_bundles(directory, store, [one.client_id for one in handed], passphrase)
            where = out or _default(directory, handed[0])
            bundles = _write(where, made)
    if as_json:
        print_json(_json(receiver.name, approved_by, handed, bundles))
        return
    out_console = console()
    out_console.print(f"{_sum(handed, 'transferred')} to {receiver.name}, approved by {approved_by}")
    for path in bundles:
        out_console.print(f"for {receiver.name}: {path} (trillium import-transfer)", soft_wrap=True)


def _default(directory: Path, first: Handed) -> Path:
    folder = directory / TRANSFERS
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder / f"{first.client_id}-{first.epoch}.transfer"


def _write(where: Path, bundles: Sequence[bytes]) -> list[Path]:
    """Write each bundle to a file of its own: the name that was given, then numbered ones beside it."""
    paths = [
        where if number == 1 else where.with_name(f"{where.stem}-{number}{where.suffix}")
        for number in range(1, len(bundles) + 1)
    ]
    for path, bundle in zip(paths, bundles, strict=True):
        write_atomically(path, bundle, mode=0o644)
    return paths


def _sum(handed: Sequence[Handed], done: str) -> str:
    changed = [one for one in handed if one.is_new]
    ended = sum(one.ended for one in changed)
    who = handed[0].device if len(handed) == 1 else f"{len(changed)} of {len(handed)} devices"
    if not changed:
        return f"{who}: nothing changed; was {done} before"
    epoch = f", epoch {handed[0].epoch}" if len(handed) == 1 else ""
    return f"{done} {who}{epoch}, {ended} certificate{'' if ended == 1 else 's'} revoked,"


def _json(to: str, approved_by: str, handed: Sequence[Handed], bundles: Sequence[Path]) -> dict[str, Any]:
    return {
        "to": to,
        "approved_by": approved_by,
        "devices": [
            {
                "device": one.device,
                "client_id": one.client_id,
                "domain": one.domain.value,
                "epoch": one.epoch,
                "changed": one.is_new,
                "revoked": one.ended,
            }
            for one in handed
        ],
        "bundles": [str(path) for path in bundles],
    }


def reset(
    directory: Path,
    words: Sequence[str],
    *,
    by: str,
    approved_by: str,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """End all that devices were given, and start another epoch of the same owner.

    Raises:
        Failure: Why not.
    """
    if by not in SIGNERS:
        raise Failure(f"--by {by}: {' or '.join(SIGNERS)}", USAGE)
    with _opened(directory) as store:
        devices = find_devices(store, words)
        givers = _givers(directory, devices, passphrase_from(passphrase_file), by)
        with progress("reset", len(devices)) as advance:
            handed = reset_devices(
                store,
                [device.client_id for device in devices],
                givers,
                now=int(time.time()),
                approved_by=approved_by,
                progress=advance,
            )
    if as_json:
        print_json(_json("", approved_by, handed, ()))
        return
    console().print(f"{_sum(handed, 'reset')} approved by {approved_by}")


def replace_key(
    directory: Path, word: str, file: Path, *, reason: str, approved_by: str, as_json: bool
) -> None:
    """Give a device another tier 1 certificate.

    Raises:
        Failure: Not its maker's, or not for it.
    """
    why = reason_of(reason)
    if why not in (RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE):
        raise Failure(f"--reason {reason}: superseded or key-compromise", USAGE)
    certificate = read_tier1(file)
    with _opened(directory) as store:
        settings, layout = read_settings(directory), Layout(directory)
        domains = {device.domain for device in find_devices(store, [word])}
        makers = [
            maker for domain in domains for maker in verified_makers(store, layout, settings, domain).values()
        ]
        done = replace_certificate(
            store,
            word,
            certificate,
            makers,
            now=int(time.time()),
            approved_by=approved_by,
            reason=why,
        )
    if as_json:
        told = {"device": done.device, "client_id": done.client_id, "serial": done.serial.hex()}
        more = {"changed": done.is_change, "new_key": done.is_new_key, "revoked": done.ended}
        print_json(told | more | {"approved_by": approved_by})
    elif not done.is_change:
        console().print(f"{done.device}: has this certificate already; nothing changed")
    elif done.is_new_key:
        console().print(
            f"{done.device}: another key from now on, serial {done.serial.hex()}; "
            f"{done.ended} certificates ended with the old one, approved by {approved_by}"
        )
    else:
        console().print(f"{done.device}: the same key, serial {done.serial.hex()}; nothing else changed")


def voucher(
    directory: Path,
    words: Sequence[str],
    out: Path,
    *,
    bundle: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Write again what a transfer has made: a device's newest voucher, or the bundle for its new owner.

    Raises:
        Failure: It never changed its owner.
    """
    with _opened(directory) as store:
        if bundle:
            paths = _write(out, make_bundles(directory, store, words, passphrase_from(passphrase_file)))
        else:
            devices = find_devices(store, words)
            if len(devices) != 1:
                raise Failure("one device, please: a voucher is for one; --transfer takes many", USAGE)
            paths = _write(out, [_newest(devices[0])])
    if as_json:
        print_json({"files": [str(path) for path in paths]})
        return
    for path in paths:
        console().print(f"wrote {path}", soft_wrap=True)


def _newest(device: Held) -> bytes:
    for epoch in reversed(device.epochs):
        if epoch.voucher is not None:
            return epoch.voucher
    raise Failure(f"{device.name}: never changed its owner; the factory's voucher is the only one")


def import_transfer(
    directory: Path,
    files: Sequence[Path],
    *,
    voucher_keys: Sequence[Path],
    approved_by: str,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Enter the devices of transfer bundles in the inventory.

    Raises:
        Failure: Which bundle is not taken, and why; those before it are.
    """
    keys = [_public_key(file) for file in voucher_keys]
    handed: list[Handed] = []
    with _opened(directory) as store:
        for file in files:
            try:
                data = file.read_bytes()
            except OSError as error:
                raise Failure(f"{file}: {error.strerror}", USAGE) from None
            with progress(file.name, 0) as advance:
                try:
                    handed += accept_bundle(
                        store,
                        directory,
                        data,
                        now=int(time.time()),
                        approved_by=approved_by,
                        voucher_keys=keys,
                        giver=lambda domain: open_giver(directory, domain, passphrase_from(passphrase_file)),
                        progress=advance,
                    )
                except InventoryError as error:
                    raise Failure(f"{file}: {error}", REFUSED) from None
    if as_json:
        print_json(_json("", approved_by, handed, ()))
        return
    new = sum(one.is_new for one in handed)
    known = f"; {len(handed) - new} were here already" if new < len(handed) else ""
    console().print(f"took {new} device{'' if new == 1 else 's'} over, approved by {approved_by}{known}")


def _public_key(file: Path) -> PublicKey:
    try:
        data = file.read_bytes()
        load = load_pem_public_key if data.startswith(b"-----") else load_der_public_key
        key = load(data)
    except OSError as error:
        raise Failure(f"--voucher-key {file}: {error.strerror}", USAGE) from None
    except ValueError:
        raise Failure(f"--voucher-key {file}: not a public key", USAGE) from None
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise Failure(f"--voucher-key {file}: a key that is not used here", USAGE)
    return key
