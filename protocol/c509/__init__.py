"""C509: CBOR-encoded X.509 certificates (draft-ietf-cose-cbor-encoded-cert, revision 20 and later)."""

from protocol.c509.algorithms import Algorithm, PublicKeyAlgorithm, SignatureAlgorithm
from protocol.c509.certificate import (
    NATIVE,
    REENCODED,
    Certificate,
    TbsCertificate,
    decode_certificate,
    decode_certificate_sequence,
)
from protocol.c509.chain import chain_from_item, decode_chain, encode_chain, thumbprint
from protocol.c509.checks import NotConvertible
from protocol.c509.extensions import Extension
from protocol.c509.general_names import GeneralName
from protocol.c509.ip_resources import AddressFamily
from protocol.c509.issuance import build_certificate, key_identifier
from protocol.c509.location_values import DistributionPoint
from protocol.c509.name import Name
from protocol.c509.name_values import AuthorityKeyIdentifier, NameConstraints
from protocol.c509.policy_values import PolicyConstraints, PolicyInformation
from protocol.c509.private_key import C509Pem, C509PrivateKey, decode_pem, decode_private_key
from protocol.c509.registry import (
    AttributeType,
    ExtensionId,
    GeneralNameType,
    KeyPurpose,
    KeyUsage,
    RequestAttributeType,
)
from protocol.c509.request import CertificationRequest, TbsRequest, decode_request, request_from_der
from protocol.c509.request_attributes import ChallengePassword, PossessionStatement, RequestAttribute
from protocol.c509.template import (
    ANY,
    ExtensionTemplate,
    NameAttributeTemplate,
    RequestTemplate,
    UnfinishedValue,
    decode_template,
)
from protocol.c509.x509 import from_der, is_canonical

__all__ = [
    "ANY",
    "NATIVE",
    "REENCODED",
    "AddressFamily",
    "Algorithm",
    "AttributeType",
    "AuthorityKeyIdentifier",
    "C509Pem",
    "C509PrivateKey",
    "Certificate",
    "CertificationRequest",
    "ChallengePassword",
    "DistributionPoint",
    "Extension",
    "ExtensionId",
    "ExtensionTemplate",
    "GeneralName",
    "GeneralNameType",
    "KeyPurpose",
    "KeyUsage",
    "Name",
    "NameAttributeTemplate",
    "NameConstraints",
    "NotConvertible",
    "PolicyConstraints",
    "PolicyInformation",
    "PossessionStatement",
    "PublicKeyAlgorithm",
    "RequestAttribute",
    "RequestAttributeType",
    "RequestTemplate",
    "SignatureAlgorithm",
    "TbsCertificate",
    "TbsRequest",
    "UnfinishedValue",
    "build_certificate",
    "chain_from_item",
    "decode_certificate",
    "decode_certificate_sequence",
    "decode_chain",
    "decode_pem",
    "decode_private_key",
    "decode_request",
    "decode_template",
    "encode_chain",
    "from_der",
    "is_canonical",
    "key_identifier",
    "request_from_der",
    "thumbprint",
]
