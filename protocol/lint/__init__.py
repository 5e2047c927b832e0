"""Judge any certificate, ours or foreign, against the profile of a label or of a CA.

A profile says what a certificate of a label looks like; lint says in which ways one does not, each with the
clause that asks for it. Rules are derived from declarations: a new label needs none.
"""

from protocol.lint.authorities import authority_names, label_names, shape_of
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.lint.judge import lint, lint_der, notes, recognise
from protocol.lint.shape import Shape

__all__ = [
    "Deviation", "Rule", "Severity", "Shape", "authority_names", "label_names", "lint", "lint_der", "notes",
    "recognise", "shape_of",
]  # fmt: skip
