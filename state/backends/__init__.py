"""Where the records of keys are held while a job runs: in memory, or in RocksDB where they outgrow it."""
