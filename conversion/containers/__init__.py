"""Kinds of files that hold tensors by name, read and written with nobody's library: from bytes to tensors."""
