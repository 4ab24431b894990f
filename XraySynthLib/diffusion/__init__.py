"""X-rays by 2D diffusion: a view, or a view and projected anatomy -> an X-ray with its landmarks.

Importing this package does not load torch.
"""
