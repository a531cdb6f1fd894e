"""Figures of a trained model: feature maps, attention maps and receptive fields."""
