"""What several rooms need, and no one of them owns."""
