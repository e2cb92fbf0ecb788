"""Data sets: videos in folders or JPEGs, the prepared data set, splits, checks, downloads."""
