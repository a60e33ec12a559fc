"""Tables and files that survive."""
