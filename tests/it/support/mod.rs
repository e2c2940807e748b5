//! What tests share. A helper that one file uses stays in that file.

pub mod crash;
pub mod deploy;
pub mod env;
pub mod facts;
pub mod fly;
pub mod guarded;
pub mod installed;
pub mod leaks;
pub mod looks;
pub mod published;
pub mod replay;
pub mod service;
pub mod trouble;
