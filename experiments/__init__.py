"""One module a question: QUESTION, GRID, measure, COLUMNS, CLAIMS, figure."""
