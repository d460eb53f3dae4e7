"""Adapt CLIP to an unlabelled domain, and keep the adaptation as a sparse residual."""
