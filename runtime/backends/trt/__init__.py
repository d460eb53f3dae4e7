"""TensorRT and TensorRT-RTX, through the API that both share."""
