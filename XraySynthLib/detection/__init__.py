"""Landmarks in X-rays: the network that finds them, how it is trained, what it says of an image.

Importing this package does not load torch.
"""
