"""How a play ends that should have ended otherwise."""

from agents.lab.children import ChildFailed


class LabFailed(Exception):
    """The play did not end as it should; the text is for people."""


def first_failure(error: BaseException) -> BaseException:
    """Return what went wrong first, out of groups of groups."""
    while isinstance(error, BaseExceptionGroup):
        ours = error.subgroup((ChildFailed, LabFailed))
        error = (ours or error).exceptions[0]
    return error
