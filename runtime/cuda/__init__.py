"""A CUDA device without torch or cupy: memory at fixed addresses, one stream, our own kernels.

`base` says what engines and strategies see of it and imports nothing of CUDA; `device` makes it.
"""
