"""What every room may use: checks of values, elementary functions, derivatives of functions."""

import numpy as np

Array = np.ndarray
