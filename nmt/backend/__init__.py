"""The door to TensorFlow: compiling, differentiating, loops and kernels that `keras.ops` does not have."""
