"""The matcher: patterns compiled to automata, and the kernel that runs them over columnar batches."""
