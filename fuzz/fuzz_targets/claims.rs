//! The strict JSON reader against serde_json: what we accept, serde_json accepts with the same
//! members and values. (It accepts more: duplicates, deeper nesting, more members.)
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintage::codec::json::{Members, Object, RawValue};
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let mut text = input.to_vec();
    let mut room = Members::new();
    let Ok(object) = Object::read(&mut text, &mut room) else { return };
    let theirs: Value = serde_json::from_slice(input).expect("serde_json accepts what we accept");
    let theirs = theirs.as_object().expect("an object");
    assert_eq!(object.members().count(), theirs.len(), "a member was lost or is there twice");
    for (name, value) in object.members() {
        let wanted = theirs.get(name).expect("the same names");
        assert_eq!(object.get(name), Some(value));
        same(&value, wanted);
    }
});

fn same(value: &RawValue<'_>, wanted: &Value) {
    assert_eq!(value.as_str(), wanted.as_str());
    assert_eq!(value.as_bool(), wanted.as_bool());
    assert_eq!(value.is_null(), wanted.is_null());
    assert_eq!(value.as_u64(), wanted.as_u64());
    if let Some(json) = value.as_json() {
        let read: Value = serde_json::from_str(json).expect("a value is JSON of its own");
        assert_eq!(&read, wanted);
    }
    let strings: Option<Vec<_>> = value.as_strings().map(Iterator::collect);
    let wanted = wanted.as_array().and_then(|array| {
        array.iter().map(|element| element.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    assert_eq!(strings.map(|s| s.into_iter().map(String::from).collect::<Vec<_>>()), wanted);
}
