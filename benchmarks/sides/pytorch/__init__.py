"""Models in PyTorch, and what its tensors can do."""
