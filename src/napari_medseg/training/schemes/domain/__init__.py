"""Schemes for images of another domain, a scanner or a contrast, without labels."""
