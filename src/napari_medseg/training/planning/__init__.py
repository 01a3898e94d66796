"""From the cases' fingerprint to a plan: rules, kernels and strides per axis, what fits this machine, and the file."""
