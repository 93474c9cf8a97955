"""Installing CUDA and cuDNN into the store."""
