//! Lists in protobuf, put together of the objects' own messages: each is encoded once and kept beside its JSON.

use bytes::{BufMut, Bytes, BytesMut};

/// What a list says of itself.
pub(super) struct Head<'h> {
    pub api_version: &'h str,
    pub kind: &'h str,
    pub resource_version: &'h str,
    pub continue_token: &'h str,
    pub remaining: Option<u64>,
}

/// The enveloped list of enveloped objects; none when one of them is not what an envelope holds.
pub(super) fn encode(head: &Head<'_>, objects: &[Bytes]) -> Option<Bytes> {
    let mut metadata = BytesMut::new();
    text(&mut metadata, 1, "");
    text(&mut metadata, 2, head.resource_version);
    text(&mut metadata, 3, head.continue_token);
    if let Some(remaining) = head.remaining {
        varint(&mut metadata, 4 << 3);
        varint(&mut metadata, remaining);
    }
    let mut list = BytesMut::with_capacity(objects.iter().map(Bytes::len).sum());
    field(&mut list, 1, &metadata);
    for object in objects {
        field(&mut list, 2, message_of(object)?);
    }
    let mut type_meta = BytesMut::new();
    text(&mut type_meta, 1, head.api_version);
    text(&mut type_meta, 2, head.kind);
    let mut out = BytesMut::with_capacity(list.len() + 64);
    out.put_slice(schema::proto::MAGIC);
    field(&mut out, 1, &type_meta);
    field(&mut out, 2, &list);
    text(&mut out, 3, "");
    text(&mut out, 4, "");
    Some(out.freeze())
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn field(out: &mut BytesMut, number: u64, content: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, content.len() as u64);
    out.put_slice(content);
}

fn text(out: &mut BytesMut, number: u64, content: &str) {
    field(out, number, content.as_bytes());
}

fn read_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The object's own message: the second field of its envelope, all of whose fields are length-delimited.
fn message_of(envelope: &[u8]) -> Option<&[u8]> {
    let mut data = envelope.strip_prefix(schema::proto::MAGIC.as_slice())?;
    while !data.is_empty() {
        let tag = read_varint(&mut data)?;
        let length = usize::try_from(read_varint(&mut data)?).ok()?;
        let content = data.get(..length)?;
        if tag == 2 << 3 | 2 {
            return Some(content);
        }
        data = &data[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_as_encoding_the_list() {
        let object =
            |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}});
        let objects: Vec<Bytes> = ["a", "b"].iter().map(|name| schema::proto::encode(&object(name)).unwrap().into()).collect();
        let head =
            Head { api_version: "v1", kind: "ConfigMapList", resource_version: "7", continue_token: "t", remaining: Some(300) };
        let decoded = schema::proto::decode(&encode(&head, &objects).unwrap()).unwrap();
        let item = |name: &str| json!({"metadata": {"name": name}, "data": {"k": "v"}});
        assert_eq!(decoded["metadata"], json!({"resourceVersion": "7", "continue": "t", "remainingItemCount": 300}));
        assert_eq!((&decoded["kind"], decoded["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 2));
        for (got, name) in decoded["items"].as_array().unwrap().iter().zip(["a", "b"]) {
            assert_eq!((&got["metadata"]["name"], &got["data"]), (&item(name)["metadata"]["name"], &item(name)["data"]));
        }
        assert!(encode(&head, &[Bytes::from_static(b"junk")]).is_none());
    }
}
