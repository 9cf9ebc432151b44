"""The networks, and the conditional GAN that trains them."""
