"""`trillium factory`: make device identities by the batch."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.authority import BadDirectory, InventoryError, MakerIssuer, WrongStore, read_settings
from agents.authority.acquaintance import read_owner
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, progress
from agents.cli.passphrase import given_passphrase, passphrase_from
from agents.cli.prefixes import parse_prefix
from agents.cli.rows import rows_as_json, show_rows
from agents.factory import (
    Bundle,
    FactoryError,
    Finished,
    Order,
    WrongRows,
    check_inventory,
    counted,
    from_requests,
    from_sheet,
    make_order,
    numbering_of,
)
from protocol.labels import Tier
from protocol.profiles import PROFILES, name_space, profile_of


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made."""

    label: str
    count: int | None
    sheet: Path | None
    requests: Path | None
    start: int
    prefix: str | None
    operator: str | None
    owner: str | None


def run(  # noqa: PLR0913 (a command has as many options)
    directory: Path,
    wish: Wish,
    out: Path | None,
    *,
    bundle: str,
    only_good: bool,
    dry_run: bool,
    passphrase_file: Path | None,
    device_passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Make a batch, or go on with one; or say what would be wrong with it.

    Returns:
        Exit code: 0 if everything is made (or could be), 1 if some rows are wrong.

    Raises:
        Failure: Not such a label or folder, a prefix that is not the maker's, a name that is taken, a wrong
            passphrase.
    """
    _check(wish)
    if bundle not in set(Bundle):
        raise Failure(f"--bundle {bundle}: {' or '.join(Bundle)}", USAGE)
    if out is None and not dry_run:
        raise Failure("--out is missing: where to", USAGE)
    prefix = _prefix(wish)
    try:
        read_settings(directory)  # before anybody types a passphrase
        passphrase = passphrase_from(passphrase_file, what="the maker's keys")
        device_passphrase = given_passphrase(device_passphrase_file, variable=None)
        owner = None if wish.owner is None else read_owner(wish.owner, directory, wish.label)
        with MakerIssuer(directory, profile_of(wish.label).domain, passphrase, owner=owner) as maker:
            order = _order(maker, wish, prefix)
            if dry_run or out is None:
                return _report(check_inventory(maker, order), as_json=as_json)
            with progress(f"{wish.label} devices", len(order.items)) as advance:
                finished = make_order(
                    maker,
                    order,
                    out,
                    device_passphrase=device_passphrase,
                    bundle=Bundle(bundle),
                    only_good=only_good,
                    progress=advance,
                )
    except WrongRows as error:
        return _report(error.order, as_json=as_json)
    except (BadDirectory, WrongStore, FactoryError, InventoryError) as error:
        raise Failure(str(error), REFUSED) from None
    _done(wish, out, finished, as_json=as_json)
    return 0


def _check(wish: Wish) -> None:
    tier_1 = [name for name, profile in PROFILES.items() if profile.tier is Tier.BOOTSTRAPPING]
    if wish.label not in tier_1:
        raise Failure(f"--label {wish.label}: a factory makes {', '.join(tier_1)}", USAGE)
    given = [wish.count is not None, wish.sheet is not None or wish.requests is not None]
    if sum(given) != 1:
        raise Failure("which devices? --count, --csv or --requests (perhaps with --csv) says it", USAGE)


def _prefix(wish: Wish) -> bytes | None:
    if wish.prefix is None:
        return None
    space = name_space(profile_of(wish.label).naming)
    if space is None:
        raise Failure(f"--prefix: names of {wish.label} have none", USAGE)
    return parse_prefix(space, wish.prefix, "--prefix").octets


def _order(maker: MakerIssuer, wish: Wish, prefix: bytes | None) -> Order:
    profile = profile_of(wish.label)
    sheet = None if wish.sheet is None else wish.sheet.read_bytes()
    if wish.requests is not None:
        return from_requests(maker, wish.label, wish.requests, sheet)
    if sheet is None:
        numbering = numbering_of(maker, profile, prefix, wish.operator)
        return counted(maker, wish.label, wish.count or 0, numbering, start=wish.start)
    numbering_or_none = None
    # Names may all be in the file: then nobody has to say how they begin.
    with suppress(FactoryError):
        numbering_or_none = numbering_of(maker, profile, prefix, wish.operator)
    if numbering_or_none is None and (prefix or wish.operator):
        numbering_of(maker, profile, prefix, wish.operator)
    return from_sheet(maker, wish.label, sheet, numbering_or_none)


def _report(order: Order, *, as_json: bool) -> int:
    """Say what could be made and what is wrong; return the exit code."""
    good, wrong = len(order.items), len(order.wrong)
    if as_json:
        document = {"label": order.label, "good": good, "wrong": rows_as_json(order.wrong), "made": False}
        print_json(document)
    else:
        show_rows(order.wrong)
        hint = " (--only-good-rows makes the others)" if good and wrong else ""
        words = f"{good} {order.label} can be made, {wrong} cannot; nothing was made{hint}"
        console().print(words, soft_wrap=True)
    return REFUSED if wrong else 0


def _done(wish: Wish, out: Path | None, finished: Finished, *, as_json: bool) -> None:
    names = list(finished.names())
    if as_json:
        document = {"label": wish.label, "count": len(names), "out": str(out), "devices": names}
        print_json(document | {"wrong": rows_as_json(finished.wrong)})
        return
    show_rows(finished.wrong)
    more = f" to {names[-1]}" if len(names) > 1 else ""
    left = f"; {len(finished.wrong)} rows were wrong" if finished.wrong else ""
    console().print(f"made {len(names)} {wish.label} in {out}: {names[0]}{more}{left}", soft_wrap=True)
