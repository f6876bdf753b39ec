"""What comes in: bodies taken apart, lines checked against their stream, feeders from Kafka and files."""
