"""Models in Flax, compiled by JAX, and what XLA's matrix products can do."""
