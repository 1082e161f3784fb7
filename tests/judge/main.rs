//! The tests that judge mutants of the store, in one binary: `.ci/full mutants` builds it once for each
//! of hundreds. Not run by `cargo test`, which runs each of them for itself.

#[path = "../store_codes.rs"]
mod store_codes;
#[path = "../store_conformance.rs"]
mod store_conformance;
#[path = "../store_edges.rs"]
mod store_edges;
#[path = "../store_files.rs"]
mod store_files;
#[path = "../store_rules.rs"]
mod store_rules;
#[path = "../store_used.rs"]
mod store_used;
