"""Estimates of a date's surface from the clear pixels of all dates: plain statistics, for any band."""
