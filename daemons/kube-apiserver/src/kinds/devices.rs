//! Dynamic resource allocation: DeviceClass, ResourceClaim, ResourceSlice.

use super::table::{AGE, Column, NAME, NAME_AND_AGE, column};
use super::value::items;
use super::value::text;
use super::{Rules, Selectable};

pub(super) struct DeviceClass;

impl Rules for DeviceClass {
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }
}

pub(super) struct ResourceClaim;

impl Rules for ResourceClaim {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("State", |row| {
                let allocated = row.has("/status/allocation");
                let reserved = allocated && !items(row.object, "/status/reservedFor").is_empty();
                let states = [
                    (row.is_deleted(), "deleted"),
                    (!allocated && !row.is_deleted(), "pending"),
                    (allocated, "allocated"),
                    (reserved, "reserved"),
                ];
                let states: Vec<&str> = states.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
                states.join(",").into()
            })
            .says("A summary of the current state (allocated, pending, reserved, etc.)."),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct ResourceSlice;

impl Rules for ResourceSlice {
    fn has_generation(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[
            ("spec.nodeName", |slice| text(slice, "/spec/nodeName").to_owned()),
            ("spec.driver", |slice| text(slice, "/spec/driver").to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Node", |row| row.text("/spec/nodeName")).of("api.resource.v1.ResourceSliceSpec", "nodeName"),
            column("Driver", |row| row.text("/spec/driver")).of("api.resource.v1.ResourceSliceSpec", "driver"),
            column("Pool", |row| row.text("/spec/pool/name")).of("api.resource.v1.ResourcePool", "name"),
            AGE,
        ];
        COLUMNS
    }
}
