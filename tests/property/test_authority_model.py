"""The authority under every order of events: a model beside the real store, fake time, a careless network."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from agents.authority import decisions, revoke, show_device, verify_audit
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media, Reply
from protocol.problem import Problem
from tests.rig import Device, Rig, new_key, rig_in

ENDED = {"superseded", "revoked", "void"}
DAY = 24 * 3600


@dataclass
class Message:
    """A request on its way, and what its sender will do with a good answer."""

    owner: "Owner"
    inbound: Inbound
    key: SoftwareSigner | None = None
    certificate: bytes | None = None


@dataclass
class Owner:
    """A device as it sees itself."""

    device: Device
    pending: tuple[SoftwareSigner, bytes] | None = None
    is_revoked: bool = False
    issued: dict[bytes, bytes] = field(default_factory=dict)
    """Certificate by key; one each, for ever."""


class AuthorityModel(RuleBasedStateMachine):
    """Devices ask, the network repeats, reorders and loses, people revoke, the authority dies."""

    messages: Bundle[Message] = Bundle("messages")
    keys = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="model-"))
        self.folder = Path(folder)
        self.rigging = ExitStack()
        self.rig: Rig = self.rigging.enter_context(rig_in(self.folder))
        self.owners = [Owner(self.rig.device()), Owner(self.rig.device()), Owner(self.rig.device(Domain.ITS))]
        self.seen: dict[bytes, str] = {}

    def teardown(self) -> None:
        directory = self.rig.directory
        self.rigging.close()
        verify_audit(directory)
        self.stack.close()

    # --- devices ---------------------------------------------------------------------------------------

    @rule(target=messages, index=keys)
    def device_enrolls(self, index: int) -> Message:
        owner, key = self.owners[index], new_key()
        return Message(owner, owner.device.enroll(key), key)

    @rule(target=messages, index=keys)
    def device_rekeys(self, index: int) -> Any:
        owner, key = self.owners[index], new_key()
        if owner.device.label not in owner.device.credentials:
            return multiple()
        return Message(owner, owner.device.enroll(key, op=Operation.SREN), key)

    @rule(target=messages, message=messages)
    def device_signs_again(self, message: Message) -> Any:
        """A crash made it forget the bytes, not the key."""
        owner, inbound = message.owner, message.inbound
        if message.key is None or inbound.op is Operation.CONF:
            return multiple()
        if inbound.op is Operation.SREN and owner.device.label not in owner.device.credentials:
            return multiple()
        return Message(owner, owner.device.enroll(message.key, op=inbound.op), message.key)

    @rule(target=messages, index=keys, status=st.sampled_from([0, 0, 0, 1]))
    def device_confirms(self, index: int, status: int) -> Any:
        owner = self.owners[index]
        if owner.pending is None:
            return multiple()
        key, certificate = owner.pending
        holding = owner.device.holding(owner.device.label, key, certificate)
        inbound = holding.confirm(certificate, status=status)
        return Message(owner, inbound, key if status == 0 else None, certificate if status == 0 else None)

    # --- the network -----------------------------------------------------------------------------------

    @rule(message=messages)
    def authority_hears(self, message: Message) -> None:
        """Any message, at any time, as often as it likes."""
        self.answer(message, self.rig.ask(message.inbound))

    @rule(group=st.lists(messages, min_size=2, max_size=6))
    def authority_hears_many_at_once(self, group: list[Message]) -> None:
        for message, reply in zip(group, self.rig.ask_together(*(m.inbound for m in group)), strict=True):
            self.answer(message, reply)

    @rule(message=messages)
    def the_answer_is_lost(self, message: Message) -> None:
        self.rig.ask(message.inbound)

    @rule(message=consumes(messages))
    def the_message_is_lost(self, message: Message) -> None:
        pass

    # --- fate ------------------------------------------------------------------------------------------

    @rule(message=messages)
    def authority_dies_before_it_records(self, message: Message) -> None:
        def die(*_: object) -> None:
            raise OSError("killed")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decisions, "record", die)
            reply = self.rig.ask(message.inbound)
        # From memory, if at all: it could write nothing down.
        assert not isinstance(reply, Content) or self.is_known(reply.body)
        self.authority_restarts()

    @rule()
    def authority_restarts(self) -> None:
        directory, clock = self.rig.directory, self.rig.clock
        self.rigging.close()
        self.rigging = ExitStack()
        self.rig = self.rigging.enter_context(rig_in(self.folder, directory=directory, clock=clock))

    @rule(seconds=st.sampled_from([1, 60, DAY, 400 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.rig.clock.now += seconds

    @rule(index=keys, reason=st.sampled_from([RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED]))
    def operator_revokes_a_certificate(self, index: int, reason: RevocationReason) -> None:
        owner = self.owners[index]
        held = owner.device.credentials.get(owner.device.label)
        if held is not None:
            serial = c509.decode_certificate(held[1]).serial.hex()
            revoke(self.rig.agent.store, serial, reason, int(self.rig.clock()))

    @precondition(lambda self: not self.owners[1].is_revoked)
    @rule()
    def operator_revokes_a_device(self) -> None:
        owner = self.owners[1]
        revoke(
            self.rig.agent.store, owner.device.name, RevocationReason.KEY_COMPROMISE, int(self.rig.clock())
        )
        owner.is_revoked = True

    # --- what must hold --------------------------------------------------------------------------------

    def is_known(self, certificate: bytes) -> bool:
        shown = (show_device(self.rig.agent.store, owner.device.client_id) for owner in self.owners)
        return any(certificate == one.encoded for device in shown for one in device.certificates)

    def answer(self, message: Message, reply: Reply) -> None:
        owner = message.owner
        if not isinstance(reply, Content):
            if isinstance(reply, Problem):
                assert reply.kind is ProblemKind.OVERLOADED, reply
            return
        if reply.media is Media.SIGN1:
            if message.certificate is not None and message.key is not None:
                self.confirmed(owner, message.key, message.certificate)
            return
        assert message.key is not None
        known = owner.issued.setdefault(message.key.public_key, reply.body)
        assert known == reply.body, "one key, one certificate"
        assert self.is_known(reply.body), "nothing is answered before it is on disk"
        certificate = c509.decode_certificate(reply.body)
        assert certificate.subject.cn == owner.device.name
        assert certificate.public_key_bytes == message.key.public_key
        owner.pending = message.key, reply.body

    def confirmed(self, owner: Owner, key: SoftwareSigner, certificate: bytes) -> None:
        states = {
            one.encoded: one.state.value
            for one in show_device(self.rig.agent.store, owner.device.client_id).certificates
        }
        assert states[certificate] == "current", "a receipt says that it is current"
        owner.device = owner.device.holding(owner.device.label, key, certificate)
        if owner.pending == (key, certificate):
            owner.pending = None

    @invariant()
    def states_only_go_forward(self) -> None:
        for owner in self.owners:
            shown = show_device(self.rig.agent.store, owner.device.client_id).certificates
            states = [one.state.value for one in shown if one.label == owner.device.label]
            assert states.count("pending") <= 1
            assert states.count("current") <= 1
            for one in shown:
                before, now = self.seen.get(one.encoded), one.state.value
                assert before not in ENDED or now in ENDED, (before, now)
                assert (before, now) != ("current", "pending")
                self.seen[one.encoded] = now

    @invariant()
    def a_device_is_never_locked_out_but_by_people(self) -> None:
        for owner in self.owners:
            shown = show_device(self.rig.agent.store, owner.device.client_id).certificates
            boot = [one.state.value for one in shown if one.label == owner.device.boot]
            assert boot == (["revoked"] if owner.is_revoked else ["current"])
            if owner.is_revoked:
                assert all(one.state.value in ENDED for one in shown)


AuthorityModel.TestCase.settings = settings(
    max_examples=max(20, settings.default.max_examples // 2) if settings.default else 20,
    stateful_step_count=30,
    deadline=None,
)
TestAuthorityModel = AuthorityModel.TestCase
