"""`trillium init`: make an authority's directory."""

import time
from collections.abc import Sequence
from pathlib import Path

from agents.authority import BadDirectory, Layout, initialise, read_settings
from agents.authority.layout import operator_name
from agents.cli.failure import REFUSED, Failure
from agents.cli.output import console, facts, print_json
from agents.cli.passphrase import passphrase_from
from agents.cli.prefixes import parse_prefix
from protocol.profiles import NameSpace


def run(
    directory: Path,
    *,
    roots: Path | None,
    organisation: str,
    flags: Sequence[str],
    ouis: Sequence[str],
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make an authority where nothing is yet.

    Raises:
        Failure: Something is there, or an argument will not do; nothing was changed.
    """
    prefixes = [parse_prefix(NameSpace.FLAG, text, "--flag") for text in flags]
    prefixes += [parse_prefix(NameSpace.OUI, text, "--oui") for text in ouis]
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        # Said before anybody types a passphrase.
        raise Failure(f"{directory}: is there already and not empty; nothing was changed", REFUSED)
    passphrase = passphrase_from(passphrase_file, what="the new authority's keys", twice=True)
    try:
        initialise(
            directory,
            passphrase=passphrase,
            now=int(time.time()),
            roots=roots,
            organisation=organisation,
            prefixes=prefixes,
        )
    except BadDirectory as error:
        raise Failure(str(error), REFUSED) from None
    settings = read_settings(directory)
    layout = Layout(directory)
    where = roots or layout.roots
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "roots": str(where),
                "root_certificate": str(layout.certificates / "root.pem"),
                "domains": [domain.value for domain in settings.domains],
            }
        )
        return
    out = console()
    out.print(f"made an authority in {directory}")
    out.print(
        facts(
            [
                ("domains", ", ".join(domain.value for domain in settings.domains)),
                ("issuers", ", ".join(operator_name(settings.organisation, one) for one in settings.domains)),
                ("root keys", str(where)),
                ("anchor", f"{layout.certificates / 'root.pem'} (and .c509)"),
            ]
        ),
        soft_wrap=True,
    )
    if roots is None:
        out.print(f"move {where} to a safe place now: serve does not start while it can read them")
