"""Networks that a user guides: the volumetric memory network, and DeepIGeoS."""
