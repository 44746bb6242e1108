"""What networks write: greedily, at random, or by a search over several texts at once."""
