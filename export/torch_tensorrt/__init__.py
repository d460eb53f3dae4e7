"""Build engines with constant weights through Torch-TensorRT."""
