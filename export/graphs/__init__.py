"""Weight-free ONNX graphs of encoders and heads, and graphs with constant weights."""
