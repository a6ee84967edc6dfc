"""A value with its 95 % interval and its n, never a bare number."""
