"""What tests of several planes share."""
