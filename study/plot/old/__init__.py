"""The figures as they were drawn, one module an experiment; goes as each is drawn anew."""
