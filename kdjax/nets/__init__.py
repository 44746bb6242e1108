"""Networks. One family per file; each is a pair of pure functions (`kdjax.types.Net`) with named taps."""
