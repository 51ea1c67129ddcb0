"""What runs a network: one protocol (`base`), torch and OpenVINO behind it. Arrays go in, arrays come out."""
