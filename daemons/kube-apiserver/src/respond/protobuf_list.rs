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

/// The bytes that enveloped objects take as items of a list; none when one of them is not what an envelope holds.
pub(super) fn size_of_items(mut objects: impl Iterator<Item = Bytes>) -> Option<usize> {
    objects.try_fold(0, |size, object| Some(size + field_size(message_of(&object)?.len())))
}

/// The enveloped list, in pieces, and its size; `items` is the size of its objects.
pub(super) fn pieces<O: Iterator<Item = Bytes>>(
    head: &Head<'_>,
    items: usize,
    objects: O,
) -> (usize, impl Iterator<Item = Bytes> + use<O>) {
    let mut metadata = BytesMut::new();
    text(&mut metadata, 1, "");
    text(&mut metadata, 2, head.resource_version);
    text(&mut metadata, 3, head.continue_token);
    if let Some(remaining) = head.remaining {
        varint(&mut metadata, 4 << 3);
        varint(&mut metadata, remaining);
    }
    let mut type_meta = BytesMut::new();
    text(&mut type_meta, 1, head.api_version);
    text(&mut type_meta, 2, head.kind);
    let mut start = BytesMut::new();
    start.put_slice(schema::proto::MAGIC);
    field(&mut start, 1, &type_meta);
    field_head(&mut start, 2, field_size(metadata.len()) + items);
    field(&mut start, 1, &metadata);
    let mut end = BytesMut::new();
    text(&mut end, 3, "");
    text(&mut end, 4, "");
    let size = start.len() + items + end.len();
    let objects = objects.flat_map(|object| {
        let message = message_of(&object).map(|message| object.slice_ref(message)).unwrap_or_default();
        let mut head = BytesMut::new();
        field_head(&mut head, 2, message.len());
        [head.freeze(), message]
    });
    (size, std::iter::once(start.freeze()).chain(objects).chain([end.freeze()]))
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn field_head(out: &mut BytesMut, number: u64, length: usize) {
    varint(out, number << 3 | 2);
    varint(out, length as u64);
}

/// Of a field with a number below 16.
fn field_size(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + length
}

fn field(out: &mut BytesMut, number: u64, content: &[u8]) {
    field_head(out, number, content.len());
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
        let items = size_of_items(objects.iter().cloned()).unwrap();
        let (size, pieces) = pieces(&head, items, objects.into_iter());
        let list = pieces.collect::<Vec<_>>().concat();
        assert_eq!(list.len(), size);
        let decoded = schema::proto::decode(&list).unwrap();
        let item = |name: &str| json!({"metadata": {"name": name}, "data": {"k": "v"}});
        assert_eq!(decoded["metadata"], json!({"resourceVersion": "7", "continue": "t", "remainingItemCount": 300}));
        assert_eq!((&decoded["kind"], decoded["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 2));
        for (got, name) in decoded["items"].as_array().unwrap().iter().zip(["a", "b"]) {
            assert_eq!((&got["metadata"]["name"], &got["data"]), (&item(name)["metadata"]["name"], &item(name)["data"]));
        }
        assert_eq!(size_of_items([Bytes::from_static(b"junk")].into_iter()), None);
    }

    #[test]
    fn sizes_are_those_of_what_is_written() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = BytesMut::new();
            field(&mut out, 2, &vec![b'x'; length]);
            assert_eq!(field_size(length), out.len(), "{length}");
        }
    }
}
