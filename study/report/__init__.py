"""From the CSVs to what people read."""
