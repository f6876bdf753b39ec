"""`ostinato doctor`: are broker, Redis, disk and machine set up for what a job promises?

For each subject there is a module that gathers facts (`*_facts`) and one or more with checks, plain functions of those
facts. Nothing is changed by looking: topics are not created, groups not joined, and what is written to a Redis or a
directory, to see that it can be, is taken away again.
"""
