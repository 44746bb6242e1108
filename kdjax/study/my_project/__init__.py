"""A project of its own: data, networks, terms and the config that puts them together."""
