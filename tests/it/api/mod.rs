//! The API as the real API server has it: schemas, rules, rights, examples. No operator runs.

mod columns;
mod examples;
mod objects;
mod rights;
mod source;
mod warnings;
mod words;
