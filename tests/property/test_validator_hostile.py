"""Whatever certificates hold, a validation ends with a path or with reasons, and nothing changed is taken."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import c509
from protocol.errors import MalformedMessage
from protocol.validator import Path, PathRejected, Policy, validate
from protocol.validity import Clock
from tests import c509_samples
from tests.ev_policies import CONTRACT_20, SECC_2, SMKI_DS
from tests.ev_world import NOW, EvWorld

WORLD = EvWorld()
LEAF = WORLD.secc()
GOOD = (LEAF.certificate, WORLD.cpo2.certificate, WORLD.cpo1.certificate)
POLICIES = (SECC_2, CONTRACT_20, SMKI_DS, Policy(name="any", form=None, max_der=800))


def judged(
    leaf: c509.Certificate, pool: list[c509.Certificate], roots: list[c509.Certificate], policy: Policy
) -> Path | PathRejected:
    """The path, or the refusal, which has reasons that can be shown to anybody."""
    try:
        return validate(leaf, pool, roots, policy=policy, clock=Clock(NOW))
    except PathRejected as error:
        refusal = error
    assert refusal.findings
    assert all(str(finding).isprintable() for finding in refusal.findings)
    return refusal


@settings(max_examples=300)
@given(
    which=st.integers(0, 2),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_a_changed_certificate_is_refused_or_means_the_same(
    which: int, changes: list[tuple[int, int]]
) -> None:
    encoded = bytearray(GOOD[which].encoded)
    for position, change in changes:
        encoded[position % len(encoded)] ^= change
    try:
        changed = c509.decode_certificate(bytes(encoded))
    except MalformedMessage:
        return
    leaf, *between = (changed if place == which else good for place, good in enumerate(GOOD))
    outcome = judged(leaf, between, WORLD.roots, SECC_2)
    if isinstance(outcome, Path):
        # Two encodings of one key, say: what was signed is the same.
        assert [one.to_der() for one in outcome.certificates[:3]] == [good.to_der() for good in GOOD]


@given(
    extensions=st.lists(st.sampled_from(c509_samples.EXTENSIONS), max_size=8, unique_by=lambda e: e.id),
    flip=st.booleans(),
    policy=st.sampled_from(POLICIES),
    native=st.booleans(),
)
def test_any_extensions_end_with_a_path_or_with_reasons(
    extensions: list[c509.Extension], flip: bool, policy: Policy, native: bool
) -> None:
    found = tuple(c509.Extension(e.id, e.critical is not flip, e.value) for e in extensions)
    strange = c509_samples.certificate(c509.NATIVE if native else c509.REENCODED, found)
    for leaf, pool in ((strange, [strange]), (GOOD[0], [strange, *GOOD[1:]])):
        judged(leaf, pool, [strange, *WORLD.roots], policy)
