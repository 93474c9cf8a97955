"""The detection service: a photo in, boxes out, over HTTP. Runs in the environment opencv_cuda, Python 3.8 or later."""
