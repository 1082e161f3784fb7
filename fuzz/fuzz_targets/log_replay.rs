//! Bytes as log segments, and harm to a healthy log: recovery reports damage or a torn tail, and
//! never a record that was not written or a history shorter than what was sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mintage::store::fuzzing::log_replay(input));
