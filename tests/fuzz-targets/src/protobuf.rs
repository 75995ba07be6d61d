//! Protobuf to JSON and back.

use schema::{proto, strict};
use serde_json::Value;

use crate::choices::Choices;
use crate::documents::{DEPTH_MAX, depth, same};
use crate::typed;

/// Bytes as they come from a client.
pub(crate) fn wire(data: &[u8]) {
    let peeked = proto::peek(data);
    let Ok(value) = proto::decode(data) else { return };
    let (api_version, kind) = peeked.expect("what can be decoded has an envelope");
    // Messages nest, and the innermost may hold JSON; the API server takes no object as deep as that.
    assert!(depth(&value) <= 2 * DEPTH_MAX);
    // The envelope may hold JSON of anything.
    if value["apiVersion"] != *api_version || value["kind"] != *kind {
        return;
    }
    let Some(fits) = crate::json::decoded(value.clone()) else { return };
    returns(&fits, "after it was normalised");
}

fn returns(value: &Value, when: &str) {
    let encoded = proto::encode(value).unwrap_or_else(|why| panic!("{why} {when}: {value}"));
    let again = proto::decode(&encoded).unwrap_or_else(|why| panic!("{why} {when}: {value}"));
    assert!(same(&again, value), "{again} is not {value} {when}");
}

/// Objects of built-in kinds.
pub(crate) fn typed(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = typed::kind(&mut choices);
    let mut object = typed::object(kind, &mut choices);
    assert_eq!(strict::check(&object, kind.2), [], "{object}");
    strict::normalise(&mut object, kind.2);
    returns(&object, "as it was made");
}
