//! Bytes as a record of the log: never a panic, and every record has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mintage::store::fuzzing::record(input));
