//! The commands of `[deploy]` in fly.toml, the trial of an image, and the machines in which they and the
//! machine checks run.
//!
//! Start reading in `release`, `seed` and `trial` (the steps; what they share is in `step`), then `observation` (what is observed, decided
//! and sent) and `one_off` (one program in one machine). Uses `release` and `fleet`.

pub mod again;
pub mod former;
pub mod machine;
pub mod observation;
pub mod one_off;
pub mod one_off_machines;
pub mod program;
pub mod published;
pub mod release;
pub mod run_state;
pub mod seed;
pub mod step;
pub mod trial;
