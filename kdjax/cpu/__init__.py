"""What only CPUs want: fast convolutions, and buffers that are kept."""
