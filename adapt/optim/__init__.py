"""Optimizers, weight averaging, Residual Sparse Training and deployment grids."""
