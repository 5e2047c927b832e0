"""`trillium import`: take devices of another maker into the inventory."""

import getpass
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Final

from agents.authority import BadDirectory, InventoryError, Layout, Settings, Store, WrongStore, read_settings
from agents.authority.acquaintance import (
    Acquaintances,
    key_id_of,
    operator_of,
    publish_maker,
    read_chain,
    read_voucher_key,
)
from agents.authority.arrivals import NoCertificates, certificates_in, of_manifest, read_file
from agents.authority.intake import Arrival, Intake, Judge, Trusted, enter, look_at
from agents.authority.makers import Statement, trust, voucher_key_of
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, progress
from agents.cli.prefixes import parse_prefix
from agents.cli.rows import rows_as_json, show_rows
from agents.factory import Manifest, read_manifest
from protocol import c509
from protocol.errors import EnrollmentError, RequestRejected
from protocol.labels import Tier
from protocol.path import verify_authority
from protocol.profiles import PROFILES, Prefix, Profile, name_space, profile_of
from protocol.validity import Clock

_NAME: Final = re.compile(r"[0-9a-z][0-9a-z-]{0,31}")
_SIGN1: Final = b"\x84"
_LEDGER: Final = "certificates.cbor"
_SEARCHED: Final = 1000
"""Certificates among which one is looked for that tells their maker."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be taken over, and from whom."""

    file: Path
    label: str | None
    certificates: Path | None
    maker_ca: Path | None
    voucher_key: Path | None
    trust_maker: str | None
    prefixes: Sequence[str]
    approved_by: str | None


@dataclass(slots=True)
class _Case:
    """One import, looked at."""

    profile: Profile
    trusted: Trusted
    statement: Statement | None
    """What is to be stated of its maker; None if that is known."""
    intake: Intake
    notes: list[str] = field(default_factory=list[str])


def run(directory: Path, wish: Wish, *, only_good: bool, dry_run: bool, as_json: bool) -> int:
    """Look at everything, then enter it, or say what is wrong.

    Returns:
        Exit code: 0 if everything is entered (or could be), 1 if something was not, or could not be.

    Raises:
        Failure: The file cannot be used as a whole, or its maker is not trusted.
    """
    if wish.trust_maker is not None and not _NAME.fullmatch(wish.trust_maker):
        raise Failure(f"--trust-maker {wish.trust_maker}: lower-case letters, digits, hyphens", USAGE)
    if wish.trust_maker is not None and wish.maker_ca is None:
        raise Failure("--trust-maker: whom? --maker-ca has its certificates", USAGE)
    now = int(time.time())
    try:
        settings = read_settings(directory)
        with closing(Store(Layout(directory).store)) as store:
            case = _look(directory, settings, wish, store, now)
            if case.statement is not None and wish.trust_maker is None:
                case.notes.append("its maker is not trusted yet: --trust-maker NAME")
            is_entered = not dry_run and (only_good or not case.intake.wrong)
            if is_entered and case.statement is not None and wish.trust_maker is None:
                name = case.statement.chain[0].subject
                raise Failure(f"maker {name} is not trusted here; --trust-maker NAME says that it is")
            if is_entered:
                _enter(directory, case, store, now)
    except (BadDirectory, WrongStore, NoCertificates, InventoryError) as error:
        raise Failure(str(error), REFUSED) from None
    _say(case, is_entered=is_entered, as_json=as_json)
    return REFUSED if case.intake.wrong and not is_entered else 0


def _look(directory: Path, settings: Settings, wish: Wish, store: Store, now: int) -> _Case:
    clock, layout = Clock(now), Layout(directory)
    manifest = _manifest(directory, settings, wish, store, clock)
    profile = _profile(wish, manifest)
    if profile.domain not in settings.domains:
        raise Failure(f"{directory}: has no domain {profile.domain.value}")
    if manifest is not None and manifest.owner != operator_of(layout, settings, profile.domain):
        raise Failure(
            f"{wish.file}: the vouchers of this batch name another owner, {manifest.owner.hex()[:16]}…; that"
            " one gives the devices away (trillium transfer), or a factory makes them for us (--owner)"
        )
    makers = Acquaintances(directory, settings, profile.domain, store, clock)
    arrivals = _arrivals(wish, manifest)
    if wish.maker_ca is None:
        trusted, arrivals = _known_maker(makers, manifest, arrivals)
        statement = None
    else:
        trusted, statement = _given_maker(layout, wish, profile, makers, clock)
    if manifest is not None and manifest.maker != trusted.authority.key_id:
        raise Failure("the manifest is of another maker's CA than --maker-ca names")
    total = None if manifest is None else len(manifest.entries)
    with progress("certificates looked at", total) as advance:
        intake = look_at(arrivals, Judge(trusted, profile, now), store, lambda at: advance(at, total))
    return _Case(profile, trusted, statement, intake)


def _manifest(directory: Path, settings: Settings, wish: Wish, store: Store, clock: Clock) -> Manifest | None:
    """Return the manifest that was given, its signature verified; None if it is none."""
    if wish.file.is_dir():
        return None
    with wish.file.open("rb") as file:
        if file.read(1) != _SIGN1:
            return None
    if wish.voucher_key is not None:
        keys = [read_voucher_key(wish.voucher_key)]
    else:
        keys = [
            key
            for domain in settings.domains
            for key in Acquaintances(directory, settings, domain, store, clock).voucher_keys
        ]
    data = read_file(wish.file)
    for key in keys:
        try:
            return read_manifest(data, voucher_key_of(key))
        except RequestRejected:
            continue
        except EnrollmentError as error:
            raise Failure(f"{wish.file}: {error}") from None
    raise Failure(f"{wish.file}: not a manifest that a known maker signed; --voucher-key names another's")


def _profile(wish: Wish, manifest: Manifest | None) -> Profile:
    if manifest is not None:
        if wish.label not in (None, manifest.label):
            raise Failure(f"--label {wish.label}: the manifest is of {manifest.label}")
        return profile_of(manifest.label)
    tier_1 = [name for name, profile in PROFILES.items() if profile.tier is Tier.BOOTSTRAPPING]
    if wish.label is None:
        raise Failure("--label is missing: certificates do not say what they are for", USAGE)
    if wish.label not in tier_1:
        raise Failure(f"--label {wish.label}: makers issue {', '.join(tier_1)}", USAGE)
    return profile_of(wish.label)


def _arrivals(wish: Wish, manifest: Manifest | None) -> Iterable[Arrival]:
    if manifest is None:
        return certificates_in(wish.file)
    certificates = wish.certificates or wish.file.parent / _LEDGER
    if not certificates.exists():
        raise Failure(f"{certificates}: is not there; --certificates says where the certificates are", USAGE)
    return of_manifest(manifest, certificates)


def _known_maker(
    makers: Acquaintances, manifest: Manifest | None, arrivals: Iterable[Arrival]
) -> tuple[Trusted, Iterable[Arrival]]:
    """Return the known maker that a file is of, and the file's certificates."""
    if manifest is not None:
        found = makers.of_key(manifest.maker)
        if found is None:
            raise Failure("nobody knows the maker of this manifest; --maker-ca names it")
        return found, arrivals
    rest = iter(arrivals)
    first = list(islice(rest, _SEARCHED))
    for arrival in first:
        found = None if arrival.certificate is None else makers.of_certificate(arrival.certificate)
        if found is not None:
            return found, chain(first, rest)
    raise Failure("no known maker issued these certificates; --maker-ca names another")


def _given_maker(
    layout: Layout, wish: Wish, profile: Profile, makers: Acquaintances, clock: Clock
) -> tuple[Trusted, Statement | None]:
    """Return the maker that --maker-ca names, and what is to be stated of it if it is not known."""
    assert wish.maker_ca is not None
    try:
        path = read_chain(wish.maker_ca, layout)
        known = makers.of_key(key_id_of(path[0]))
        if known is not None and wish.trust_maker is None:
            return known, None
        makers.check_new(key_id_of(path[0]), wish.trust_maker or "?")
        statement = Statement(
            wish.trust_maker or "?",
            profile.label,
            _prefixes(wish, profile, path, clock),
            path,
            None if wish.voucher_key is None else read_voucher_key(wish.voucher_key),
            wish.approved_by or _user(),
            clock.now or 0,
        )
        return Trusted(statement.authority(clock), path), statement
    except EnrollmentError as error:
        raise Failure(f"--maker-ca {wish.maker_ca}: {error}") from None


def _prefixes(
    wish: Wish, profile: Profile, path: Sequence[c509.Certificate], clock: Clock
) -> tuple[Prefix, ...]:
    """Return the prefixes that are stated: those that were given, or those that the CA lists."""
    space = name_space(profile.naming)
    if space is None:
        if wish.prefixes:
            raise Failure(f"--prefix: names of {profile.label} have none", USAGE)
        return ()
    given = tuple(parse_prefix(space, text, "--prefix") for text in wish.prefixes)
    if given:
        return given
    listed = verify_authority(path[:-1] or path, root=path[-1], authority=None, clock=clock)
    return tuple(sorted(listed.prefixes.get(space, ())))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _enter(directory: Path, case: _Case, store: Store, now: int) -> None:
    if case.statement is not None:
        try:
            trust(store, case.statement, now)
        except EnrollmentError as error:
            raise Failure(str(error)) from None
        publish_maker(Layout(directory), case.profile.domain, case.statement)
    with progress(f"{case.profile.label} devices", len(case.intake.good)) as advance:
        for done in enter(store, case.intake.good, case.trusted.authority, now):
            advance(done)


def _say(case: _Case, *, is_entered: bool, as_json: bool) -> None:
    intake, label = case.intake, case.profile.label
    good, wrong = len(intake.good), len(intake.wrong)
    if as_json:
        print_json(
            {
                "label": label,
                "maker": case.trusted.authority.key_id.hex(),
                "good": good,
                "known": intake.known,
                "wrong": rows_as_json(intake.wrong),
                "entered": is_entered,
                "notes": case.notes,
            }
        )
        return
    out = console()
    show_rows(intake.wrong)
    counts = f"{good} new {label}, {intake.known} known already, {wrong} wrong"
    hint = " (--only-good-rows takes the others)" if good and wrong and not is_entered else ""
    done = f"entered {good}" if is_entered else "nothing was entered"
    out.print(f"{counts}; {done}{hint}", soft_wrap=True)
    for note in case.notes:
        out.print(f"({note})", soft_wrap=True)
