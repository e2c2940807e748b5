//! Rules of this repository: its code, pages, manifests and tools.

mod architecture;
mod house;
mod manifests;
mod pages;
mod planted;
mod prereqs;
mod supply;
mod tidy;
