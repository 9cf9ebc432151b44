"""Train a generator of your own: data, simulated clouds, augmentation, networks, pix2pix and export.

Needs the extra `cloudgan[train]`; TensorFlow and Keras are imported nowhere else in cloudgan.
"""
