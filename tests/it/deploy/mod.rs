//! Releases: how they are deployed, replaced, followed, tested and rolled back.

mod busy;
mod failure_matrix;
mod fleet;
mod fly_release;
mod machine_checks;
mod parity;
mod read_back;
mod release;
mod rollback;
mod source;
mod strategies;
mod try_image;
