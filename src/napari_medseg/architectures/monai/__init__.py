"""MONAI's networks as they are, behind our contract."""
