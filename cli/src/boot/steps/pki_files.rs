//! Keys and certificates of the cluster.

use anyhow::Result;
use jiff::Timestamp;

use crate::boot::certificates::{self, Facts};
use crate::boot::context::Context;
use crate::boot::plan::Check;

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(certificates::problems(&Facts::of(context)?, Timestamp::now())))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    certificates::ensure(context, &Facts::of(context)?, Timestamp::now()).map(drop)
}
