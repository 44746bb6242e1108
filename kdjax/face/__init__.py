"""What users import: the parts of kdjax in a program of their own."""
