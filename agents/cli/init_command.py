"""`trillium init`: make an authority's directory."""

import time
from collections.abc import Sequence
from pathlib import Path

from agents.authority import BadDirectory, Layout, initialise, read_settings
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, facts, print_json
from agents.cli.passphrase import passphrase_from
from agents.cli.prefixes import parse_prefix
from protocol.labels import Domain
from protocol.profiles import NameSpace


def parse_domains(words: Sequence[str]) -> tuple[Domain, ...]:
    """Return the domains that people name: each by its own name, or a whole industry, or all.

    Raises:
        Failure: There is no such domain.
    """
    found: dict[Domain, None] = {}
    for word in words:
        named = [one for one in Domain if word in (one.value, one.industry.value, "all")]
        if not named:
            known = ", ".join([*Domain, "ev", "all"])
            raise Failure(f"--domain {word}: no such domain; there are {known}", USAGE)
        # METERING names an industry and one domain of it: people mean the domain.
        exact = [one for one in named if one.value == word]
        found |= dict.fromkeys(exact or named)
    return tuple(found) or (Domain.METERING, Domain.ITS)


def run(  # noqa: PLR0913 (a command has as many options)
    directory: Path,
    *,
    roots: Path | None,
    under: Path | None,
    under_passphrase_file: Path | None,
    domains: Sequence[str],
    organisation: str,
    country: str,
    sub_cas: int,
    url: str,
    wmis: Sequence[str],
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
    prefixes += [parse_prefix(NameSpace.WMI, text, "--wmi") for text in wmis]
    chosen = parse_domains(domains)
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
            under=under,
            under_passphrase=None
            if under_passphrase_file is None
            else passphrase_from(under_passphrase_file),
            domains=chosen,
            organisation=organisation,
            country=country,
            sub_cas=sub_cas,
            url=url,
            prefixes=prefixes,
        )
    except BadDirectory as error:
        raise Failure(str(error), REFUSED) from None
    settings = read_settings(directory)
    layout = Layout(directory)
    where = roots or under or layout.roots
    anchors = [
        layout.certificate(name)
        for name in dict.fromkeys(settings.lines(domain).root.name for domain in settings.domains)
    ]
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "roots": str(where),
                "root_certificates": [str(path) for path in anchors],
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
                (
                    "issuers",
                    ", ".join(
                        settings.lines(domain).operator[-1].common_name.format(organisation=organisation)
                        for domain in settings.domains
                    ),
                ),
                ("root keys", str(where)),
                ("anchors" if anchors[1:] else "anchor", ", ".join(map(str, anchors)) + " (and .c509)"),
            ]
        ),
        soft_wrap=True,
    )
    if roots is None and under is None:
        out.print(f"move {where} to a safe place now: serve does not start while it can read them")
