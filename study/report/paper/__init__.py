"""The paper: numbers from the tables, and the text pressed with them into a PDF."""
