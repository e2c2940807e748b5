//! Integration tests, one target.
