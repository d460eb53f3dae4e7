"""Backend `openvino`: OpenVINO on the CPU."""
