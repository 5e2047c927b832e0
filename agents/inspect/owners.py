"""What changes of owner are written on: transfer bundles and owners' cards, in words."""

from typing import Any, Final

from agents.inspect import words
from agents.inspect.finding import Field, Finding
from protocol import c509
from protocol.errors import MalformedMessage

MAX_LISTED: Final = 20
"""Most devices of a bundle that are listed one by one."""
_AUTHORITY_BYTES: Final = 32


def explain_bundle(item: Any) -> list[Field] | None:  # noqa: ANN401 (decoded CBOR)
    """Return what a transfer bundle says, or None if `item` is none."""
    match item:
        case [
            1, str(domain), bytes(giver), bytes(receiver), bytes(), list(makers), str(approved_by), int(time),
            list(devices),
        ] if len(giver) == len(receiver) == _AUTHORITY_BYTES:  # fmt: skip
            fields = [
                Field("domain", domain),
                Field("from", f"authority {giver.hex()}", giver.hex()),
                Field("to", f"authority {receiver.hex()}", receiver.hex()),
                Field("approved by", approved_by),
                Field("at", words.moment(time), time),
                Field("makers", str(len(makers)), len(makers)),
                Field("devices", str(len(devices)), len(devices)),
            ]
            for device in devices[:MAX_LISTED]:
                match device:
                    case [str(name), str(label), str(client_id), int(epoch), *_]:
                        told = {"label": label, "client_id": client_id, "epoch": epoch}
                        fields.append(Field(name, f"{label}, client-id {client_id}, epoch {epoch}", told))
                    case _:
                        fields.append(Field("device", "not one of a bundle"))
            if len(devices) > MAX_LISTED:
                fields.append(Field("and", f"{len(devices) - MAX_LISTED} more"))
            return fields
        case _:
            return None


def explain_card(item: Any) -> Finding | None:  # noqa: ANN401 (decoded CBOR)
    """Return what an owner's card says, or None if `item` is none."""
    match item:
        case [1, str(organisation), (str() | None) as at, list(chains)]:
            fields = [Field("organisation", organisation)]
            if at is not None:
                fields.append(Field("reached at", at))
            for chain in chains:
                match chain:
                    case [str(domain), bytes(encoded)]:
                        fields.append(Field(domain, _chain(encoded), encoded.hex()))
                    case _:
                        return None
            if not chains:
                fields.append(Field("authorities", "none: a tenant"))
            return Finding("owner-card", "Card of an owner: its public certificates", tuple(fields))
        case _:
            return None


def _chain(encoded: bytes) -> str:
    try:
        return " < ".join(str(one.subject) for one in c509.decode_chain(encoded))
    except MalformedMessage as error:
        return f"no chain: {error}"
