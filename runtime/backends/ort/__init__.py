"""Everything of ONNX Runtime: its libraries, and engines on the CPU and on a GPU."""
