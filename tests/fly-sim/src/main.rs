//! The simulator as a program: prints one line when it is ready and runs until it is told to end.

fn main() {}
