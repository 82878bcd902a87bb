"""The reference pipeline: card transactions from raw file to verified serving, with the data to try it on."""
