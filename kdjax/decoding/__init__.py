"""What networks write: greedily, at random, or by a search; how good it is, and what it costs."""
