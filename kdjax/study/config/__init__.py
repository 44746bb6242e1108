"""What a config is: its fields, what each may be, and what validation chooses among."""
