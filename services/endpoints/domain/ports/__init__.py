"""What the operations need from the outside, as protocols."""
