"""What the project runs on itself: generation from the contract."""
