"""What a pre-training will cost, by arithmetic: operations, memory and time from the shapes of a configuration.

Plain Python without torch, so that ``dmlm plan`` answers at once. The counts are tested against torch's own counter.
"""
