"""What a lab counts, and what it says in the end."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


def median(sizes: Counter[int]) -> int:
    """Return the lower median of counted numbers; 0 if there are none."""
    left = (sizes.total() + 1) // 2
    for size in sorted(sizes):
        left -= sizes[size]
        if left <= 0:
            return size
    return 0


@dataclass(slots=True)
class FleetTally:
    """One kind of device, as its process reports it."""

    devices: int
    """How many there are."""
    finished: int = 0
    enrolled: int = 0
    rekeyed: int = 0
    messages_sent: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(device, why) of the first ones that failed."""
    request_bytes: Counter[int] = field(default_factory=Counter)
    answer_bytes: Counter[int] = field(default_factory=Counter)

    def read(self, report: dict[str, Any]) -> None:
        """Take over what a fleet's process reports."""
        for name in ("finished", "enrolled", "rekeyed", "messages_sent", "failed"):
            setattr(self, name, int(report[name]))
        self.failures = [(str(device), str(why)) for device, why in report["failures"]]
        self.request_bytes = Counter({int(size): count for size, count in report["request_bytes"]})
        self.answer_bytes = Counter({int(size): count for size, count in report["answer_bytes"]})


@dataclass(frozen=True, slots=True)
class Summary:
    """The lab's result; its fields are the JSON's keys."""

    devices: int
    enrolled: int
    """Devices that hold every certificate of their kind."""
    rekeyed: int
    """Devices that then replaced every key."""
    messages_sent: int
    """Messages that CoAP or the broker took from a device."""
    messages_verified: int
    """Messages that the verifier found good. A message that a lossy broker lost is not among them."""
    refused: int
    """Messages that the verifier refused, copies left out: in a good run one, of the revoked device."""
    failed: int
    """Devices that did not do all they should."""
    duplicate_certificates: int
    """Certificates in the store beyond one for each authority, label and public key."""
    seconds: float
    """From the first enrollment to the last message."""
    enrollments_per_second: float
    """Enrollments and rekeys together, over `seconds`."""
    request_bytes_median: int
    answer_bytes_median: int

    def to_json(self) -> dict[str, int | float]:
        """Return the JSON document."""
        return asdict(self)

    @property
    def is_good(self) -> bool:
        """Whether everybody did everything, and nobody got anything twice."""
        return self.failed == 0 and self.duplicate_certificates == 0 and self.enrolled == self.devices
