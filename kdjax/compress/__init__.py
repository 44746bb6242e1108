"""Networks made smaller: zeros, fewer bits, lower ranks, fewer channels. One operation a file."""
