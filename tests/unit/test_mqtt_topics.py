"""Topic names: what is built is read again, and nothing else is."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import topics
from broker.topics import Outcome, RequestTopic
from protocol.errors import MalformedMessage, UnexpectedMessage
from protocol.labels import Operation

client_ids = st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True)
labels = st.from_regex(r"[0-9a-z-]{1,32}", fullmatch=True)
requests = st.builds(RequestTopic, client_ids, labels, st.sampled_from(Operation))


@given(requests)
def test_a_request_topic_reads_as_what_it_was_built_from(request: RequestTopic) -> None:
    assert topics.parse_request(str(request)) == request


@given(requests, st.sampled_from(Outcome))
def test_a_reply_topic_names_request_and_outcome(request: RequestTopic, outcome: Outcome) -> None:
    assert topics.parse_reply(request.reply(outcome), request.client_id) == (request, outcome)


@given(requests, client_ids, st.sampled_from(Outcome))
def test_a_reply_to_another_client_is_unexpected(request: RequestTopic, other: str, outcome: Outcome) -> None:
    if other == request.client_id:
        other += "x"
    with pytest.raises(UnexpectedMessage):
        topics.parse_reply(request.reply(outcome), other)


@given(st.text(max_size=80) | st.from_regex(r"(est|m)(/[0-9a-z+#$]{0,5}){0,6}", fullmatch=True))
def test_any_text_is_read_or_refused_with_the_two_errors(topic: str) -> None:
    for parse in (
        topics.parse_request,
        topics.parse_message,
        topics.refusal_topic,
        lambda each: topics.parse_reply(each, "a"),
    ):
        with suppress(MalformedMessage, UnexpectedMessage):
            parse(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "est/a/meter-ds",
        "est/a/meter-ds/sen/accepted",
        "est//meter-ds/sen",
        "est/a/METER/sen",
        "est/+/meter-ds/sen",
        "est/a/#/sen",
        "est/a/meter-ds/",
        "EST/a/meter-ds/sen",
        "est/" + "a" * 65 + "/meter-ds/sen",
        "est/a/meter-ds/sen\n",
        "est/a\u00e9/meter-ds/sen",
    ],
)
def test_what_nobody_can_be_answered_on_is_malformed(topic: str) -> None:
    with pytest.raises(MalformedMessage):
        topics.parse_request(topic)


def test_an_unknown_operation_can_be_refused_by_name() -> None:
    with pytest.raises(UnexpectedMessage):
        topics.parse_request("est/a/meter-ds/dance")
    assert topics.refusal_topic("est/a/meter-ds/dance") == "est/a/meter-ds/dance/rejected"


def test_message_topics_carry_client_and_stream() -> None:
    assert topics.message_topic("Meter_1", "readings") == "m/Meter_1/readings"
    assert topics.parse_message("m/Meter_1/readings") == ("Meter_1", "readings")
    assert topics.verified_topic("readings") == "verified/readings"


@pytest.mark.parametrize("topic", ["m/a", "m/a/b/c", "m//b", "m/a/B", "verified/a/b", "m/a/" + "b" * 33])
def test_other_shapes_are_no_message_topics(topic: str) -> None:
    with pytest.raises(MalformedMessage):
        topics.parse_message(topic)


@pytest.mark.parametrize(
    ("topic", "is_one"),
    [
        ("est/a/replies", True),
        ("est/a/meter-ds/sen/accepted", True),
        ("est/a/meter-ds/sen", False),
        ("est/b/replies", False),
        ("est/ab/replies", False),
        ("est/a/+", False),
        ("est/a/#", False),
        ("est/a/\u20ac", False),
        ("est/a/" + "x" * 200, False),
        ("m/a/readings", False),
    ],
)
def test_a_response_topic_is_below_the_requesters_prefix_and_no_request(topic: str, is_one: bool) -> None:
    assert topics.is_response_topic(topic, "a") is is_one
