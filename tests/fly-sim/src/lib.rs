//! Fly.io on loopback.
