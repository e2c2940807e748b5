//! One object's life when all goes well, and what it costs: from its creation to its removal.

mod budget;
mod conditions;
mod go_live;
mod limits;
mod pipeline;
mod preflight;
mod provision;
mod smoke_test;
