//! Arbitrary operations on the store's state, opened again from its log and its checkpoint, equal a
//! naive model.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mintage::store::fuzzing::table_ops(input));
