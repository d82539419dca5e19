"""The contract: `project.yaml` as a strict, frozen, typed document.

Everything else that describes the data is derived from it: the validation suite, the feature
definitions, the request schema, the encoder, the signature.
"""

from slipway.contract.load import ContractError, load_contract, parse_contract
from slipway.contract.model import Contract

__all__ = ["Contract", "ContractError", "load_contract", "parse_contract"]
