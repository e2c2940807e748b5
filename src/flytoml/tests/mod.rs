//! What must hold of whole files.

mod covered;
mod deployed;
mod golden;
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod recorded;
mod robust;
