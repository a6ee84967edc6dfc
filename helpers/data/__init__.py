"""From files on a disk to a checked catalogue, its splits, and batches of pixels."""
