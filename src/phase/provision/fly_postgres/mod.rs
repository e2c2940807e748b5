//! Fly Postgres: an app of the role `postgres_cluster` whose machines Golive creates as
//! `fly postgres create` does. Everything in such an app is ours because the app is: its name is
//! claimed before it is created.
//!
//! Start with `state` (what is observed), then `decide` (pure) and `act`. May use: the files below the
//! steps of Provision, and the shared files of `phase`.

mod act;
mod decide;
mod machine;
mod observe;
mod state;

pub use act::{act, remove};
pub use decide::{ClusterChange, billed, decide, intent};
pub use observe::{KIND, notes, observe};
pub use state::ClusterState;
