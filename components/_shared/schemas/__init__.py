"""JSON Schemas (draft 2020-12) of the trust file, the policy file and the statements; the readers do not need them."""
