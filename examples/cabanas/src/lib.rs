//! The application that goes live.
