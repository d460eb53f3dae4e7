"""TensorRT and TensorRT-RTX: build, store and run engines through their common API."""
