"""With this file in the package `tests`, pytest makes ``tests.support`` importable from every test."""
