"""Networks as graphs, which OpenVINO runs in place of torch: the extra `openvino`."""
