"""Fine-tuning: from a network and labelled images to a tuned network."""
