//! The API as the real API server has it: schemas, rules, rights, examples. No operator runs.

mod attacker;
mod authors;
mod columns;
mod examples;
mod gates;
mod integrations;
mod objects;
mod rights;
mod source;
mod warnings;
mod words;
