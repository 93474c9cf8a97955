"""Darknet YOLO on OpenCV: the networks, their weights, the devices, a detector and a benchmark.

Runs on a target, so it keeps to Python 3.6, the standard library, NumPy and OpenCV 4.2 or later.
"""
