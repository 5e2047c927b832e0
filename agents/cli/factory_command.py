"""`trillium factory`: make device identities by the batch."""

from pathlib import Path

from agents.authority import BadDirectory, InventoryError, MakerIssuer, WrongStore, read_settings
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, progress
from agents.cli.passphrase import given_passphrase, passphrase_from
from agents.cli.prefixes import parse_prefix
from agents.factory import FactoryError, make_batch
from protocol.labels import Tier
from protocol.profiles import PROFILES, name_space, profile_of


def run(  # noqa: PLR0913 (a command has as many options)
    directory: Path,
    label: str,
    count: int,
    out: Path,
    *,
    start: int,
    prefix: str | None,
    passphrase_file: Path | None,
    device_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make a batch, or go on with one.

    Raises:
        Failure: Not such a label or folder, a prefix that is not the maker's, a name that is taken, a wrong
            passphrase.
    """
    tier_1 = [name for name, profile in PROFILES.items() if profile.tier is Tier.BOOTSTRAPPING]
    if label not in tier_1:
        raise Failure(f"--label {label}: a factory makes {', '.join(tier_1)}", USAGE)
    space, chosen = name_space(profile_of(label).naming), None
    if prefix is not None:
        if space is None:
            raise Failure(f"--prefix: names of {label} have none", USAGE)
        chosen = parse_prefix(space, prefix, "--prefix")
    try:
        read_settings(directory)  # before anybody types a passphrase
        passphrase = passphrase_from(passphrase_file, what="the maker's keys")
        device_passphrase = given_passphrase(device_passphrase_file, variable=None)
        with (
            MakerIssuer(directory, profile_of(label).domain, passphrase) as maker,
            progress(f"{label} devices", count) as advance,
        ):
            batch = make_batch(
                maker,
                label,
                count,
                out,
                device_passphrase=device_passphrase,
                prefix=None if chosen is None else chosen.octets,
                start=start,
                progress=advance,
            )
    except (BadDirectory, WrongStore, FactoryError, InventoryError) as error:
        raise Failure(str(error), REFUSED) from None
    names = list(batch.names())
    if as_json:
        print_json({"label": label, "count": len(names), "out": str(out), "devices": names})
        return
    more = f" to {names[-1]}" if len(names) > 1 else ""
    console().print(f"made {len(names)} {label} in {out}: {names[0]}{more}", soft_wrap=True)
