"""The access table, and what "covers" means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access import RULES, Action, Role, covers, is_allowed
from protocol.labels import Tier

PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE


def test_every_role_has_a_rule_for_every_action() -> None:
    assert set(RULES) == set(Role)
    assert all(set(rules) == set(Action) for rules in RULES.values())


@pytest.mark.parametrize(
    ("role", "action", "topic", "is_permitted"),
    [
        (Role.DEVICE, PUBLISH, "est/me/meter-ds/sen", True),
        (Role.DEVICE, PUBLISH, "m/me/readings", True),
        (Role.DEVICE, PUBLISH, "est/me/meter-ds/sen/accepted", False),
        (Role.DEVICE, PUBLISH, "est/you/meter-ds/sen", False),
        (Role.DEVICE, PUBLISH, "est/me2/meter-ds/sen", False),
        (Role.DEVICE, PUBLISH, "m/you/readings", False),
        (Role.DEVICE, PUBLISH, "m/me/readings/more", False),
        (Role.DEVICE, PUBLISH, "verified/readings", False),
        (Role.DEVICE, PUBLISH, "pub/crl", False),
        (Role.DEVICE, PUBLISH, "$SYS/broker", False),
        (Role.DEVICE, PUBLISH, "est/me/+/+", False),
        (Role.DEVICE, SUBSCRIBE, "est/me/+/+/accepted", True),
        (Role.DEVICE, SUBSCRIBE, "est/me/+/+/+", True),
        (Role.DEVICE, SUBSCRIBE, "est/me/#", True),
        (Role.DEVICE, SUBSCRIBE, "est/me", True),
        (Role.DEVICE, SUBSCRIBE, "pub/crl/meter-ds", True),
        (Role.DEVICE, SUBSCRIBE, "est/+/+/+/accepted", False),
        (Role.DEVICE, SUBSCRIBE, "est/#", False),
        (Role.DEVICE, SUBSCRIBE, "#", False),
        (Role.DEVICE, SUBSCRIBE, "+/me/#", False),
        (Role.DEVICE, SUBSCRIBE, "est/you/#", False),
        (Role.DEVICE, SUBSCRIBE, "m/me/readings", False),
        (Role.DEVICE, SUBSCRIBE, "verified/#", False),
        (Role.DEVICE, SUBSCRIBE, "$share/us/est/me/#", True),
        (Role.DEVICE, SUBSCRIBE, "$share/us/est/you/#", False),
        (Role.DEVICE, SUBSCRIBE, "$share/us", False),
        (Role.NEWCOMER, PUBLISH, "est/me/meter-ds/sen", True),
        (Role.NEWCOMER, PUBLISH, "m/me/readings", False),
        (Role.NEWCOMER, SUBSCRIBE, "est/me/#", True),
        (Role.NEWCOMER, SUBSCRIBE, "pub/crl", False),
        (Role.SERVICE, SUBSCRIBE, "est/+/+/+", True),
        (Role.SERVICE, SUBSCRIBE, "est/+/meter-ds/+", True),
        (Role.SERVICE, SUBSCRIBE, "m/+/+", True),
        (Role.SERVICE, SUBSCRIBE, "est/#", False),
        (Role.SERVICE, SUBSCRIBE, "#", False),
        (Role.SERVICE, PUBLISH, "est/me/meter-ds/sen/pending", True),
        (Role.SERVICE, PUBLISH, "verified/readings", True),
        (Role.SERVICE, PUBLISH, "pub/crl/meter-ds", True),
        (Role.SERVICE, PUBLISH, "m/me/readings", False),
        (Role.READER, SUBSCRIBE, "verified/#", True),
        (Role.READER, SUBSCRIBE, "m/+/+", False),
        (Role.READER, PUBLISH, "pub/crl", False),
        (Role.READER, PUBLISH, "verified/readings", False),
    ],
)
def test_who_may_do_what(role: Role, action: Action, topic: str, is_permitted: bool) -> None:
    assert is_allowed(role, action, "me", topic) is is_permitted


@pytest.mark.parametrize("tier", Tier)
def test_only_a_factory_certificate_makes_a_newcomer(tier: Tier) -> None:
    assert (Role.of(tier) is Role.NEWCOMER) is (tier is Tier.BOOTSTRAPPING)


levels = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)
filters = st.builds(lambda body, tail: "/".join(body + tail), levels, st.sampled_from([[], ["#"]]))
names = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map("/".join)


@given(filters, filters, names)
def test_what_a_covered_filter_matches_the_rule_matches_too(rule: str, wanted: str, name: str) -> None:
    if covers(rule, wanted) and covers(wanted, name):
        assert covers(rule, name)


@given(filters)
def test_a_filter_covers_itself(wanted: str) -> None:
    assert covers(wanted, wanted)
