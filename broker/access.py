"""Who may publish and subscribe where: one table for the embedded broker and for mosquitto.

A device sends requests and signed messages under its own client-id and hears only its own replies and
public topics. Before tier 2 (no owner yet) it has `est/` alone. Ours, the authorities and verifiers,
hear every request and message and are the only ones to publish replies, verified messages and public
topics. A reader is somebody else's back end: it hears what was verified.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocol.labels import Tier


class Action(Enum):
    """What is asked of the broker."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Role(Enum):
    """What a client is to us."""

    NEWCOMER = "newcomer"
    """A device that has only its factory certificate."""
    DEVICE = "device"
    """A device with an owner."""
    SERVICE = "service"
    """An authority or verifier of ours."""
    READER = "reader"
    """A consumer of verified messages."""

    @classmethod
    def of(cls, tier: Tier) -> "Role":
        """Return the role of a device whose certificate has `tier`."""
        return cls.NEWCOMER if tier is Tier.BOOTSTRAPPING else cls.DEVICE


@dataclass(frozen=True, slots=True)
class Identity:
    """Which device a TLS client certificate names."""

    client_id: str
    """[0-9A-Za-z_-]{1,64}, bound to the certificate's maker and name."""
    tier: Tier


CLIENT_ID: Final = "{client-id}"
"""Stands for the client's own id in `RULES`."""

RULES: Final[dict[Role, dict[Action, tuple[str, ...]]]] = {
    Role.NEWCOMER: {
        Action.PUBLISH: ("est/{client-id}/+/+",),
        Action.SUBSCRIBE: ("est/{client-id}/#",),
    },
    Role.DEVICE: {
        Action.PUBLISH: ("est/{client-id}/+/+", "m/{client-id}/+"),
        Action.SUBSCRIBE: ("est/{client-id}/#", "pub/#"),
    },
    Role.SERVICE: {
        Action.PUBLISH: ("est/+/#", "verified/+", "pub/#"),
        Action.SUBSCRIBE: ("est/+/+/+", "m/+/+"),
    },
    Role.READER: {
        Action.PUBLISH: (),
        Action.SUBSCRIBE: ("verified/#", "pub/#"),
    },
}
"""Topic filters: whatever one of them covers is allowed, everything else is not."""


def filters(role: Role, action: Action, client_id: str) -> tuple[str, ...]:
    """Return the filters that `RULES` gives to one client."""
    return tuple(rule.replace(CLIENT_ID, client_id) for rule in RULES[role][action])


def is_allowed(role: Role, action: Action, client_id: str, topic: str) -> bool:
    """Return whether a client may publish to `topic`, or subscribe to it as a filter.

    Args:
        role: What the client is.
        action: What it wants.
        client_id: Its id; only characters that `topics.check_client_id` lets pass.
        topic: A topic name or filter, any string at all. A filter is allowed if everything that it
            matches is; a shared subscription (`$share/<group>/<filter>`) as its filter is.
    """
    if action is Action.PUBLISH and ("+" in topic or "#" in topic):
        return False
    if action is Action.SUBSCRIBE and topic.startswith("$share/"):
        topic = topic.split("/", 2)[-1]
    return any(covers(rule, topic) for rule in filters(role, action, client_id))


def covers(rule: str, topic: str) -> bool:
    """Return whether `rule` matches everything that `topic` matches (a name matches itself).

    Source:
        MQTT 3.1.1 §4.7.1: `#` stands for the parent and any number of child levels.
    """
    ours, theirs = rule.split("/"), topic.split("/")
    for position, level in enumerate(ours):
        if level == "#":
            return True
        if position == len(theirs):
            return False
        other = theirs[position]
        if other == "#" or level not in ("+", other):
            return False
    return len(ours) == len(theirs)
