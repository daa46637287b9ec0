"""The endpoints service: registers endpoints, indexes what they offer and decides what must run."""
