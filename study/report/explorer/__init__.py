"""The explorer: one page, opened offline, that shows every network of the atlas layer by layer.

``charts`` says what is drawn; ``page`` puts charts, tables, template, style and script into one
file. The script chooses rows of the tables and compares them with the ranges of floats; it
computes no other number.
"""
