"""Base weights, and patches over them."""
