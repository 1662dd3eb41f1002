"""Past one device: where parameters, gradients and optimizer state lie on a mesh, and what that costs."""
