"""TensorRT and TensorRT-RTX, through the API that both share; engines are built, kept and found."""
