//! Random words for passwords and names.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use crate::{Error, Result};

/// `bytes` random bytes from the system, as lower-case hexadecimal digits.
pub fn hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut buffer))
        .map_err(Error::file("read", "/dev/urandom"))?;
    Ok(buffer.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
