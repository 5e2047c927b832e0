"""`serve --cps`: the provisioning services whose certificates sign contract packages."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from agents.authority.packing import Services, Vouching
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.devices.borrowed import Borrowed, IdentityError, Loan, StoreError
from agents.devices.identity import BOOTSTRAP_KEY
from protocol import c509
from protocol.profiles import PROFILES, services_of

_LOG: Final = logging.getLogger("trillium.authority")


class Service:
    """One provisioning service in this process.

    Args:
        borrowed: Its certificate, whoever renews that.
    """

    def __init__(self, borrowed: Borrowed) -> None:
        self.borrowed: Final = borrowed
        self._is_missed = False
        self._made: tuple[Loan, Vouching] | None = None

    def vouching(self, now: int) -> Vouching | None:
        """Return who signs at this POSIX second; None where nobody can, which is logged once."""
        try:
            found = self._vouching(now)
            why = "has no certificate that is good now"
        except (StoreError, OSError) as error:
            found, why = None, str(error)
        if found is None and not self._is_missed:
            _LOG.warning("contracts are not available: %s %s; %s", self._folder, why, self.what_to_do)
        self._is_missed = found is None
        return found

    def _vouching(self, now: int) -> Vouching | None:
        loan = self.borrowed.look()
        if loan is None:
            return None
        certificate = loan.certificate
        if now < certificate.not_before or (
            certificate.not_after is not None and now > certificate.not_after
        ):
            return None
        chain = (certificate.to_der(), *(ca.to_der() for ca in loan.above))
        return Vouching(loan.signer, chain, c509.thumbprint(certificate.encoded))

    @property
    def _folder(self) -> Path:
        return self.borrowed.identity.folder

    @property
    def what_to_do(self) -> str:
        """What gets it a certificate, for people."""
        return f"trillium device enroll --identity {self._folder} --via … --label {self.borrowed.label}"


def open_service(folder: Path, option: str, wanted: str, passphrase: bytes) -> Service:
    """Return the service of an identity folder.

    Args:
        folder: Of a service's identity.
        option: As it was typed.
        wanted: Label of the certificates that sign packages.
        passphrase: Of its keys, if they are encrypted.

    Raises:
        Failure: It cannot be used.
    """
    try:
        is_encrypted = b"ENCRYPTED" in (folder / BOOTSTRAP_KEY).read_bytes()[:64]
        borrowed = Borrowed(folder, wanted, passphrase if is_encrypted else None)
    except OSError as error:
        raise Failure(f"{option} {folder}: {error.strerror or error}", REFUSED) from None
    except (IdentityError, StoreError) as error:
        raise Failure(f"{option} {folder}: {error}", REFUSED) from None
    label = borrowed.identity.label
    if wanted not in services_of(label):
        openers = ", ".join(PROFILES[wanted].opened_by)
        raise Failure(f"{option} {folder}: is a {label}, and {wanted} is for {openers}", USAGE)
    return Service(borrowed)


_OPTIONS: Final = {"ev-cps": "--cps", "ev20-cps": "--cps20"}


def say_what_is_missing(labels: Iterable[str], services: Services, now: int) -> None:
    """Log for which of `labels` nobody signs packages now, and what to do about it."""
    for label in labels:
        wanted = PROFILES[label].vouched_by
        if wanted is None:
            continue
        service = services.get(wanted)
        if service is not None:
            service(now)  # says it itself
            continue
        opener = ", ".join(PROFILES[wanted].opened_by)
        _LOG.warning(
            "%s is not available: name the %s identity that signs its packages with %s FOLDER",
            label,
            opener,
            _OPTIONS[wanted],
        )


def open_services(cps: Path | None, cps20: Path | None, passphrase: bytes) -> Services:
    """Return who signs packages, by label.

    Raises:
        Failure: A folder that was named cannot be used.
    """
    found: dict[str, Callable[[int], Vouching | None]] = {}
    for label, folder in (("ev-cps", cps), ("ev20-cps", cps20)):
        if folder is not None:
            found[label] = open_service(folder, _OPTIONS[label], label, passphrase).vouching
    return found
