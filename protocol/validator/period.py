"""Is it time? Three answers, and where the clock is to blame the clock is named."""

from datetime import UTC, datetime

from protocol import c509
from protocol.validator.policy import Policy
from protocol.validator.reasons import Reason
from protocol.validity import Clock, Verdict


def is_behind(clock: Clock) -> bool:
    """Return whether the wall clock is before what is known to be past: such a clock tells nothing."""
    return clock.now is not None and clock.now < clock.floor


def usable(clock: Clock) -> Clock:
    """Return `clock`, without its wall clock if that is behind."""
    return Clock(None, clock.floor) if is_behind(clock) else clock


def check_time(
    certificate: c509.Certificate, clock: Clock, policy: Policy
) -> tuple[Verdict, tuple[Reason, str] | None]:
    """Return the verdict on one validity period, and what is wrong, as what the certificate does.

    Args:
        certificate: Any.
        clock: As the caller has it, also where it is wrong.
        policy: Whether an unknown time will do.
    """
    verdict = usable(clock).judge(certificate.not_before, certificate.not_after)
    match verdict:
        case Verdict.VALID:
            return verdict, None
        case Verdict.EXPIRED:
            latest = max(clock.floor, clock.now or 0)
            by = "this clock" if latest == clock.now else "what was verified before"
            end = moment(certificate.not_after or 0)
            return verdict, (Reason.EXPIRED, f"expired on {end}; by {by} it is past {moment(latest)}")
        case Verdict.NOT_YET:
            begin, now = moment(certificate.not_before), moment(clock.now or 0)
            return verdict, (Reason.NOT_YET_VALID, f"is not valid before {begin}; this clock says {now}")
        case Verdict.TIME_UNKNOWN:
            if not policy.needs_time:
                return verdict, None
            if is_behind(clock):
                now, floor = moment(clock.now or 0), moment(clock.floor)
                words = f"cannot be judged: this clock says {now}, but {floor} is past already; set the clock"
                return verdict, (Reason.CLOCK_WRONG, words)
            return verdict, (Reason.CLOCK_UNKNOWN, "cannot be judged: there is no clock")


def moment(seconds: int) -> str:
    """Return a time for people, from POSIX seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
