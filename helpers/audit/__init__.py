"""Can the published numbers be true as printed? An audit from data/published/ alone, without an image."""
