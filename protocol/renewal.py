"""When a device asks for its next certificate: a moment of its own in the window that its profile opens.

A fleet that enrolled in one hour must not come back in one hour, and whoever forecasts its load must know
when it comes back. So the moment is not drawn but computed, from what both sides hold: device and authority
come to the same second, and the moments of many devices are spread evenly over the window.

    notBefore ───────────── start ≤ moment < end ──── lead ──── notAfter
                     renew_after            renew_after + renew_spread
"""

import hashlib

from protocol.profiles.declaration import Profile
from protocol.validity import Clock

_SHORTEST = 4
"""Seconds: in less there is no room for a window, and the next certificate is due at once."""


def renewal_window(profile: Profile, not_before: int, not_after: int | None) -> tuple[int, int] | None:
    """Return when the renewals of certificates with this period begin and end.

    A certificate that is shorter than its profile's, because its contract or its CA ends sooner, keeps the
    time that the profile leaves between window and end (half its own period at most): what that time is
    for, say a station's warning 14 days before a contract's end, does not shrink with the certificate.

    Args:
        profile: Of the certificate's label.
        not_before: POSIX seconds.
        not_after: POSIX seconds; None: it never ends.

    Returns:
        (start, end) in POSIX seconds, `end` not included, both inside the period; None where nothing is
        ever due: a certificate without end, or one of a label that is not renewed over the air.
    """
    if not_after is None or not profile.is_over_the_air:
        return None
    span = not_after - not_before
    if span < _SHORTEST:
        return not_before, not_before + 1
    lead = (1 - profile.renew_after - profile.renew_spread) * max(span, profile.validity or 0)
    end = not_after - max(1, round(min(lead, span / 2)))
    start = end - max(1, round(profile.renew_spread * span))
    return max(start, not_before + 1), end


def renewal_time(profile: Profile, not_before: int, not_after: int | None, device: str) -> int | None:
    """Return when a device asks for the successor of a certificate.

    Args:
        profile: Of the certificate's label.
        not_before: POSIX seconds.
        not_after: POSIX seconds; None: it never ends.
        device: The device's name.

    Returns:
        POSIX seconds inside `renewal_window`, always the same for the same arguments; None where that is.
    """
    window = renewal_window(profile, not_before, not_after)
    if window is None:
        return None
    start, end = window
    return start + ((end - start) * _share(profile.label, device, not_before) >> 64)


def is_renewal_due(
    profile: Profile, not_before: int, not_after: int | None, device: str, clock: Clock
) -> bool | None:
    """Return whether it is time to ask for the successor.

    Args:
        profile: Of the certificate's label.
        not_before: POSIX seconds.
        not_after: POSIX seconds; None: it never ends.
        device: The device's name.
        clock: What the device knows of the time.

    Returns:
        None where the device cannot know: it has no clock, and what it has verified is not yet later than
        that moment. Whoever took that for "now" would come back at once, and for ever.
    """
    due = renewal_time(profile, not_before, not_after, device)
    if due is None:
        return False
    if clock.now is None:
        return True if clock.floor >= due else None
    return max(clock.floor, clock.now) >= due


def _share(label: str, device: str, not_before: int) -> int:
    """Return a number, >= 0 and < 2^64, as if drawn by lot.

    notBefore is part of it so that a device does not come last in every window; the label, so that one
    device's keys do not all come in one moment.
    """
    return int.from_bytes(hashlib.sha256(f"{label} {not_before} {device}".encode()).digest()[:8])
