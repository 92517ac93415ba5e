"""Models: the contract, the Transformer and the recurrent encoder-decoder."""
