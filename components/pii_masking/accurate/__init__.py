"""The detection profile `accurate`: a second language model, rules for names and addresses, and what is found again."""
