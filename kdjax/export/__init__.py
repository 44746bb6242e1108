"""What leaves kdjax, and what it costs there."""
