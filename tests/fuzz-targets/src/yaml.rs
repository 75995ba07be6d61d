//! YAML in and out.

use machinery::yaml;

use crate::documents::{DEPTH_MAX, depth, same};
use crate::json::decoded;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lenient = yaml::to_value_lenient(text);
    let Ok(values) = yaml::to_values(text) else { return };
    if let [value] = values.as_slice() {
        assert_eq!(lenient, Ok((value.clone(), None)), "nothing is repeated");
    }
    for value in values {
        assert!(depth(&value) <= DEPTH_MAX);
        let printed = yaml::to_string(&value);
        let again = yaml::to_value(&printed).unwrap_or_else(|why| panic!("{why}:\n{printed}"));
        assert!(same(&again, &value), "{again} is not {value}:\n{printed}");
        decoded(value);
    }
}
