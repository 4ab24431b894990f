"""The CT generator: label map -> CT, by an autoencoder and two rectified flows.

A label-conditioned autoencoder makes latents at a quarter of the resolution; a flow of latents
draws what the labels leave open (how dense the bone, what is in the bowel); a flow at full
resolution draws what no latent holds, texture and noise. Importing this package does not load
torch.
"""

PARTS = ("autoencoder", "latents", "refiner")
"""A generator's networks, in the order of their training."""
