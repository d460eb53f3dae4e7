"""Compare exported engines with PyTorch on real images."""
