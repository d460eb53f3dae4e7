"""Check the ONNX graphs of a bundle before any library opens them."""
