"""Adapt CLIP's image encoder to an unlabelled domain, and keep the adaptation as a sparse residual."""
