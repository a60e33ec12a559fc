"""One module or folder a question; each holds an `Experiment` under the name ``experiment``."""

FIRST = ("relu_against_sigmoid",)  # what runs, and is read, before the others
