"""Building OpenCV with CUDA for the given cards: one wheel, from checksummed sources, proved afterwards.

Runs where the wheel is built: the host itself, through the role `opencv`, or a build machine. Python 3.8 or newer, the
standard library and `packaging`. The catalog does not travel: a recipe (recipe.py) carries what was decided.
"""
