"""One machine for a key that the authority makes, and what could be answered to it."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from agents.authority.intents import new_serial
from agents.authority.packing import Draft, Vouching, make
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.ev import CpsPackage, Installation, request_digest
from protocol.exchange.device_delivery import Delivery, DeliveryOrder
from protocol.exchange.device_effects import (
    Effects,
    Seen,
    Send,
)
from protocol.exchange.device_trust import Anchor, Trust
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Reply
from protocol.profiles import profile_of
from protocol.validity import Clock
from tests.contract_world import CPS, EMAID, NOW, QUICK, Car, Scene

CLOCK = Clock(NOW)
NONCE = bytes(range(16))


@dataclass
class Bench:
    """One machine, and what an authority and a provisioning service could answer it."""

    scene: Scene
    car: Car
    op: Operation = Operation.SEN
    request: bytes | None = None
    name: str | None = None
    clock: Clock = CLOCK
    knows: bool = True
    adopted: list[ec.EllipticCurvePrivateKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        profile = profile_of(self.scene.label)
        self.profile = profile
        self.authority = self.scene.agent.authorities[profile.domain]
        chain = c509.encode_chain(self.authority.chain) if self.knows else None
        identity = self.car.identity
        anchor = Anchor(identity.device, identity.root(), self.authority.key_id, 0, (identity.voucher_key(),))
        trust = Trust(anchor, Seen(), chain, self.clock)
        signer = self.car.signer.signer
        assert isinstance(signer, SoftwareSigner)
        order = DeliveryOrder(
            profile=profile,
            op=self.op,
            requester=self.car.signer,
            agreement=signer,
            name=self.name or identity.device,
            nonce=NONCE,
            root=identity.vouching_root(),
            adopt=self.adopt,
            request=self.request,
        )
        self.machine = Delivery(trust, order, self.clock, QUICK)

    def adopt(self, key: ec.EllipticCurvePrivateKey) -> SoftwareSigner:
        self.adopted.append(key)
        return SoftwareSigner(key)

    def start(self) -> Outbound:
        return sent(self.machine.start(0.0))

    def made(
        self, *, name: str = EMAID, device: str | None = None, recipient: bytes | None = None
    ) -> Installation:
        """Return a contract for this car, or with one thing otherwise."""
        draft = Draft(
            self.profile,
            name,
            device or self.car.identity.device,
            new_serial(),
            NOW - 300,
            NOW + 300 * 24 * 3600,
            recipient or self.car.signer.signer.public_key,
        )
        return make(self.authority, draft).installation

    def packed(
        self,
        request: Outbound,
        installation: Installation | None = None,
        *,
        vouching: Vouching | None = None,
        label: str | None = None,
    ) -> Content:
        vouching = vouching or self.scene.services[CPS[self.scene.edition]]
        assert vouching is not None
        package = CpsPackage.sign(
            installation or self.made(),
            request=request_digest(request.body),
            label=label or request.label,
            signer=vouching.signer,
            cps_chain=vouching.chain,
        )
        return Content(package.encode(), Media.CONTRACT_PACKAGE)

    def receive(self, reply: Reply, now: float = 0.0) -> Effects:
        return self.machine.receive(reply, now, 0.5)


def sent(effects: Effects) -> Outbound:
    last = effects[-1]
    assert isinstance(last, Send), effects
    return last.request
