"""Alerts: raised as rows, worded as messages, sent to targets. Controllers, operations and jobs use it."""
