//! Output that may be closed, as by `head`: then the rest is not printed.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::out::write(format_args!("{}\n", format_args!($($part)*)))
    };
}

/// Prints without a line end.
macro_rules! say_part {
    ($($part:tt)*) => {
        $crate::out::write(format_args!($($part)*))
    };
}

pub(crate) use {say, say_part};

/// Prints; that nobody reads it is no error.
pub fn write(text: Arguments) {
    let _ = std::io::stdout().lock().write_fmt(text);
}
