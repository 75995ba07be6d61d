//! JSON patches and merge patches.

use machinery::patch;

use crate::documents::{DEPTH_MAX, depth, halves, has_null_member, value};

/// An object and a patch of it.
pub(crate) fn json(data: &[u8]) {
    let (object, operations) = halves(data);
    let (Some(mut object), Some(operations)) = (value(object), value(operations)) else { return };
    if patch::json::apply(&mut object, &operations).is_ok() {
        assert!(depth(&object) <= DEPTH_MAX, "a patch nests as deeply as it likes");
    }
}

/// What an object is and what it shall be; the second is also taken as a patch.
pub(crate) fn merge(data: &[u8]) {
    let (original, modified) = halves(data);
    let (Some(original), Some(modified)) = (value(original), value(modified)) else { return };
    let mut patched = original.clone();
    patch::merge::apply(&mut patched, &modified);
    assert!(depth(&patched) <= depth(&original).max(depth(&modified)));
    let once = patched.clone();
    patch::merge::apply(&mut patched, &modified);
    assert_eq!(patched, once, "a merge patch may be applied twice");

    let three_way = patch::merge::create_three_way(&original, &modified, &once);
    patch::merge::apply(&mut patched, &three_way);
    if !has_null_member(&modified) {
        let diff = patch::merge::create_two_way(&original, &modified);
        let mut there = original;
        patch::merge::apply(&mut there, &diff);
        assert_eq!(there, modified, "{diff}");
    }
}
