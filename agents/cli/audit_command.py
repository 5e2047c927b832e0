"""`trillium audit verify`: is the log what was written?"""

from pathlib import Path

from agents.authority import AuditBroken, BadDirectory, WrongStore, verify_audit
from agents.cli.failure import REFUSED, Failure
from agents.cli.output import console, print_json, waiting


def verify(directory: Path, head: Path | None, *, as_json: bool) -> None:
    """Verify the chain, and that it goes through a published head.

    Raises:
        Failure: It was changed or cut off, or cannot be read.
    """
    try:
        signed = None if head is None else head.read_bytes()
        with waiting("reading the audit log"):
            end = verify_audit(directory, signed)
    except AuditBroken as error:
        if as_json:
            print_json({"intact": False, "sequence": error.sequence, "why": str(error)})
        raise Failure(f"{directory}: NOT intact: {error}", REFUSED) from None
    except (BadDirectory, WrongStore) as error:
        raise Failure(str(error), REFUSED) from None
    if as_json:
        print_json({"intact": True, "records": end.sequence, "head": end.hash.hex()})
        return
    whose = "the published head" if head is None else str(head)
    console().print(
        f"intact: {end.sequence} records, up to and beyond {whose}; end {end.hash.hex()}", soft_wrap=True
    )
