"""Train a generator: data, augmentation, models, one trainer for all of them, and export.

Needs the extra `cloudgan[train]`; TensorFlow and Keras are imported nowhere else in cloudgan.
"""
