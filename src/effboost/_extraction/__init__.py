"""From images to features, streamed and cached."""
