//! The outline of an object: what finds and filters it, read from its bytes without making the rest of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep plain values are kept: `kind`, `spec.nodeName`, `involvedObject.name`.
const LEVELS: usize = 2;

/// Reads the strings, numbers and truths of the first two levels of an object, and whole those fields of the second level that
/// are `kept` (`("metadata", "labels")`). Everything else is passed over.
///
/// # Errors
///
/// The bytes are not JSON.
pub fn read(json: &[u8], kept: &[(&str, &str)]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Level { depth: 1, parent: "", kept }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value.unwrap_or_default())
}

/// What may be at one level; none is a value that is passed over.
#[derive(Clone, Copy)]
struct Level<'k> {
    depth: usize,
    parent: &'k str,
    kept: &'k [(&'k str, &'k str)],
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Option<Value>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Self::Value, E> {
        Ok(Some(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
        Ok(Some(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
        Ok(Some(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
        Ok(Some(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
        Ok(Some(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        if self.depth > LEVELS {
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        }
        let mut object = Map::new();
        while let Some(Key(key)) = access.next_key()? {
            let value = if self.kept.contains(&(self.parent, &key)) {
                Some(access.next_value()?)
            } else {
                access.next_value_seed(Level { depth: self.depth + 1, parent: &key, kept: self.kept })?
            };
            if let Some(value) = value {
                object.insert(key.into_owned(), value);
            }
        }
        Ok(Some(Value::Object(object)))
    }
}

/// A field's name, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stays() {
        let object = json!({
            "kind": "Pod", "n": 1, "t": true, "none": null, "list": [1, {"a": 1}],
            "metadata": {"name": "a\"b", "labels": {"x": "y", "deep": {"z": [1]}}, "annotations": {"big": "…"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "affinity": {"a": {"b": {}}}},
            "status": {"podIPs": [{"ip": "192.0.2.1"}], "phase": "Running"},
            "labels": {"x": "y"},
        });
        let kept = [("metadata", "labels"), ("status", "podIPs")];
        let outline = read(object.to_string().as_bytes(), &kept).unwrap();
        let expected = json!({
            "kind": "Pod", "n": 1, "t": true,
            "metadata": {"name": "a\"b", "labels": {"x": "y", "deep": {"z": [1]}}},
            "spec": {"nodeName": "n1"},
            "status": {"podIPs": [{"ip": "192.0.2.1"}], "phase": "Running"},
            "labels": {"x": "y"},
        });
        assert_eq!(outline, expected);
    }

    #[test]
    fn names_with_escapes() {
        assert_eq!(read(br#"{"k\u0069nd": "x"}"#, &[]).unwrap(), json!({"kind": "x"}));
    }

    #[test]
    fn what_is_not_json() {
        for input in ["", "{", r#"{"a": [}"#, "{} x", r#"{"a": {"b": {"c": nul}}}"#] {
            assert!(read(input.as_bytes(), &[]).is_err(), "{input}");
        }
    }
}
