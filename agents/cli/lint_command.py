"""`trillium lint`: judge a certificate against the profile of a label, or of a CA."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, table
from agents.cli.printable import printable

if TYPE_CHECKING:
    from agents.inspect import Given
    from protocol import c509
    from protocol.lint import Deviation, Shape


def run(name: str, *, label: str, issuer: str | None, as_json: bool) -> int:
    """Judge the first certificate in file `name`, or in standard input if it is "-".

    Returns:
        Exit code: 0 if it is as the profile says, 1 if it deviates.

    Raises:
        Failure: There is no certificate, or no such label (`USAGE`): nothing was judged.
    """
    from protocol.errors import RequestRejected  # noqa: PLC0415 (a composition root imports late)
    from protocol.lint import label_names, lint, lint_der, notes, shape_of  # noqa: PLC0415
    from protocol.profiles import PROFILES  # noqa: PLC0415

    try:
        shape = shape_of(label)
    except RequestRejected:
        near = get_close_matches(label, label_names(), n=3) or PROFILES
        raise Failure(f"--label {label}: no such label; there are {', '.join(near)}", USAGE) from None
    given = _read(name)
    certificate = given.certificate
    above = None if certificate is None else _issuer_of(certificate.issuer_name, given, issuer)
    if certificate is None:
        assert given.der is not None
        deviations = lint_der(given.der, label)
        remarks: tuple[str, ...] = ("what cannot be read was not judged further",)
    else:
        shape = shape_of(label, is_root=certificate.issuer is None)
        deviations = lint(certificate, given.der, shape, issuer=above)
        remarks = notes(certificate)
        if above is None and not shape.is_root:
            remarks = (*remarks, "its issuer's certificate is not here, so its signature was not verified")
    if as_json:
        print_json(_as_json(shape, deviations, remarks))
    else:
        _show("standard input" if name == "-" else name, shape, deviations, remarks)
    return REFUSED if deviations else 0


def _issuer_of(name: object, given: "Given", file: str | None) -> "c509.Certificate | None":
    """Return the issuer's certificate: from its own file, or beside the certificate; None if nowhere."""
    if file is None:
        return next((other for other in given.others if other.subject == name), None)
    found = _read(file)
    for candidate in (found.certificate, *found.others):
        if candidate is not None and candidate.subject == name:
            return candidate
    raise Failure(f"--issuer {file}: has no certificate of {name}", USAGE)


def _read(name: str) -> "Given":
    from agents.inspect import MAX_BYTES, NotRecognised, given_certificate  # noqa: PLC0415

    where = "standard input" if name == "-" else name
    if name != "-" and Path(name).is_dir():
        raise Failure(f"{name}: is a folder; name a file in it", USAGE)
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        return given_certificate(data)
    except OSError as error:
        raise Failure(f"{where}: {error.strerror}", USAGE) from None
    except NotRecognised as error:
        raise Failure(f"{where}: {error}", USAGE) from None


def _as_json(shape: "Shape", deviations: Sequence["Deviation"], remarks: Sequence[str]) -> dict[str, Any]:
    return {
        "label": shape.label,
        "title": shape.title,
        "version": shape.version,
        "fits": not deviations,
        "errors": sum(one.is_error for one in deviations),
        "warnings": sum(not one.is_error for one in deviations),
        "deviations": [
            {
                "rule": one.rule.value,
                "severity": one.severity.value,
                "found": one.found,
                "expected": one.expected,
                "requirement": one.requirement,
            }
            for one in deviations
        ],
        "notes": list(remarks),
    }


def _show(where: str, shape: "Shape", deviations: Sequence["Deviation"], remarks: Sequence[str]) -> None:
    out = console()
    named = f"{shape.label} ({shape.title})"
    if not deviations:
        out.print(printable(f"{where}: fits {named}"), soft_wrap=True, markup=False)
    else:
        errors = sum(one.is_error for one in deviations)
        counts = [_count(errors, "error"), _count(len(deviations) - errors, "warning")]
        total = _count(len(deviations), "deviation")
        said = ", ".join(count for count in counts if count)
        out.print(printable(f"{where}: {total} from {named}: {said}"), soft_wrap=True, markup=False)
        rows = [
            (one.severity.value, one.rule.value, one.found, one.expected, one.requirement)
            for one in deviations
        ]
        out.print(table(("", "rule", "found", "expected", "requirement"), rows))
    for remark in remarks:
        out.print(printable(f"({remark})"), soft_wrap=True, markup=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
