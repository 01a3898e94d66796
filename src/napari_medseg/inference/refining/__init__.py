"""Given labels made better by a network: boxes along their boundaries, and what the network says of each."""
