//! Bytes as a value of the checkpoint: never a panic, and every leaf has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mintage::store::fuzzing::checkpoint_value(input));
