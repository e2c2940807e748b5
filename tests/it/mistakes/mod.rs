//! Wrong inputs, and what a person gets for each: from the real API server, from `kubectl golive lint`,
//! and from the operator. The page `docs/wrong-inputs.md` is what these tests saw.

mod admission;
mod operator;
mod page;
