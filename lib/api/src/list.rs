//! Lists, read without decoding their items: each item stays a slice of the answer's bytes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A list as the server wrote it.
#[derive(Clone, Debug, Default)]
pub struct RawList {
    pub resource_version: u64,
    /// Empty when this was the last page.
    pub continue_token: String,
    pub items: Vec<Bytes>,
}

#[derive(Deserialize)]
struct ListView<'a> {
    #[serde(default)]
    metadata: ListMetaView,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMetaView {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

/// Reads a list of any kind; items share the memory of `bytes`.
pub fn decode_list(bytes: &Bytes) -> Result<RawList, serde_json::Error> {
    let view: ListView<'_> = serde_json::from_slice(bytes)?;
    Ok(RawList {
        resource_version: view.metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0),
        continue_token: view.metadata.r#continue.unwrap_or_default(),
        items: view.items.unwrap_or_default().iter().map(|raw| bytes.slice_ref(raw.get().as_bytes())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_slices_of_the_answer() {
        let bytes = Bytes::from_static(br#"{"metadata":{"resourceVersion":"12","continue":"x"},"items":[{"a":1},{"b":[2]}]}"#);
        let list = decode_list(&bytes).unwrap();
        assert_eq!((list.resource_version, list.continue_token.as_str()), (12, "x"));
        assert_eq!(list.items, vec![Bytes::from_static(br#"{"a":1}"#), Bytes::from_static(br#"{"b":[2]}"#)]);
        assert!(bytes.as_ptr_range().contains(&list.items[1].as_ptr()));
    }

    #[test]
    fn null_items_are_no_items() {
        assert!(decode_list(&Bytes::from_static(br#"{"metadata":{},"items":null}"#)).unwrap().items.is_empty());
    }
}
