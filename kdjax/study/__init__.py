"""Whole studies: from a config to a report. The only floor that reads a ConfigDict."""
