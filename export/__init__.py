"""From task artifacts to a bundle: deploy tensors, weight-free ONNX graphs, proof of equality."""
