"""What to look at while and after training: gradients by layer, curvature, landscapes, paths; and the pictures' style."""
