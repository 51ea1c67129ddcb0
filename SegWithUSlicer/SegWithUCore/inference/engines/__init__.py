"""What runs a network: one protocol (`base`), torch and OpenVINO behind it. Arrays go in, arrays come out."""

AUTO, TORCH, OPENVINO = "auto", "torch", "openvino"
MASK = "mask"
"""Runs models without a network, whatever is asked for."""
ENGINES = (AUTO, TORCH, OPENVINO)
"""What users may ask for."""
