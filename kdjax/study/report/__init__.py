"""From JSON-able results to pages, tables, figures and numbers."""
