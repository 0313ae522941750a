"""The frozen parts and where they come from: VAE, CLIP, pretrained weights, conversions."""
