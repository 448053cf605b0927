"""Proof that a checkpoint is the same model in every framework, each of which is picked up by its name."""
