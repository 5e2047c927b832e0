"""New keys for a meter, so that at every moment both sides have a set in common.

    head-end                                                            meter
    Settled(g)                                                          uses g
        Offer(g+1, ephemeral keys) ──────────────────────────────────>  has g+1 pending, uses g
    Offered                                                             │
        <────────────────────────────────── Answer(g+1, ephemeral keys) ┘
    Switching: has g and g+1
        Switch(g+1, wrapped keys, confirmation under g+1) ───────────>  uses g+1, forgets g
        <──────────────────────── Switched(g+1, confirmation under g+1) ┘
    Settled(g+1), forgets g

Every message is a general-signing envelope; the DataSign keys do not depend on anything that is rolled over,
so that even two sides that lost all their keys find together again. Why it holds, whatever is lost, repeated,
delayed or reordered, and wherever the power fails:

* A side stores before it sends. What it sent once it repeats octet for octet, until it is answered.
* The meter's keys are g or g+1; it follows the switch alone, and only if the confirmation opens under the
  keys that it derived itself. The head-end has g+1 stored before the first switch leaves it, and forgets g
  when the meter has shown g+1, which it does after it has stored g+1.
* The head-end never offers g+2 while a switch to g+1 is out: the meter alone knows which keys it uses, and a
  rollover has no end but the meter's word. An offer alone may be abandoned (`HeadEnd.abandon`).
* A number is used once. The meter has a floor under it that only rises: what it refused or left behind it
  never takes later, so a refusal is final and the head-end may go back to g.
* All kinds of keys are renewed together, each from an ephemeral key of its own; a set that repeats a key of
  the one before, or an ephemeral key that was seen before, is refused by whoever notices.

A group's broadcast key cannot be agreed on, so the switch brings it, wrapped with the new master key.
"""

from protocol.metering.rollover_effects import Done, Effect, Effects, Ignored, Pairing, Refused, Send, Store
from protocol.metering.rollover_head_end import PATIENCE, HeadEnd, Plan
from protocol.metering.rollover_messages import Reason, Step
from protocol.metering.rollover_meter import EphemeralKeys, Meter
from protocol.metering.rollover_state import (
    HeadEndState,
    MeterState,
    Offered,
    Pending,
    Settled,
    Switching,
    decode_head_end,
    decode_meter,
    encode_head_end,
    encode_meter,
)

__all__ = [
    "PATIENCE",
    "Done",
    "Effect",
    "Effects",
    "EphemeralKeys",
    "HeadEnd",
    "HeadEndState",
    "Ignored",
    "Meter",
    "MeterState",
    "Offered",
    "Pairing",
    "Pending",
    "Plan",
    "Reason",
    "Refused",
    "Send",
    "Settled",
    "Step",
    "Store",
    "Switching",
    "decode_head_end",
    "decode_meter",
    "encode_head_end",
    "encode_meter",
]
