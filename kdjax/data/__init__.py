"""Data: one source per file, and the order, augmentation and feeding that all sources share."""
