"""Certification paths, judged by a policy: what OpenSSL and `cryptography` cannot say of ours.

Conforming ISO 15118-20 and DLMS certificates have critical extensions, critical key identifiers and leaves
without alternative names, which those validators refuse; and they know no roles, so they accept a
charging station's certificate where a provisioning service's is due. See docs/validator.md.
"""

from protocol.validator.leaf import leaf_findings
from protocol.validator.of_profile import policy_of
from protocol.validator.policy import (
    ALL_USAGES,
    CA_EXTENSIONS,
    MAX_CANDIDATES,
    Criticality,
    Extensions,
    Grammar,
    LeafConstraints,
    Policy,
    Presence,
    Role,
    Rule,
    Subject,
)
from protocol.validator.reasons import MAX_FINDINGS, PROBLEMS, Finding, PathRejected, Reason
from protocol.validator.search import IsRevoked
from protocol.validator.signatures import (
    COMPUTABLE,
    ED448,
    ED25519,
    P256_SHA256,
    P384_SHA384,
    P521_SHA512,
    Suite,
)
from protocol.validator.validate import Path, validate

__all__ = [
    "ALL_USAGES",
    "CA_EXTENSIONS",
    "COMPUTABLE",
    "ED448",
    "ED25519",
    "MAX_CANDIDATES",
    "MAX_FINDINGS",
    "P256_SHA256",
    "P384_SHA384",
    "P521_SHA512",
    "PROBLEMS",
    "Criticality",
    "Extensions",
    "Finding",
    "Grammar",
    "IsRevoked",
    "LeafConstraints",
    "Path",
    "PathRejected",
    "Policy",
    "Presence",
    "Reason",
    "Role",
    "Rule",
    "Subject",
    "Suite",
    "leaf_findings",
    "policy_of",
    "validate",
]
