"""Fine-tuning of a network on labelled images."""
