//! What must hold of whole files. Uses `flytoml` as its users do; the cases are in `testdata/`. Start
//! reading in `golden`.

mod covered;
mod deployed;
mod golden;
mod mutated;
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod recorded;
mod refused;
mod robust;
mod told;
