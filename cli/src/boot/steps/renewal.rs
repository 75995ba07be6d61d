//! kctl-certs.timer: certificates are renewed long before they end.

use std::path::Path;

use anyhow::Result;

use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::paths::{PROGRAMS, UNITS};
use crate::boot::plan::Check;
use crate::boot::template::render;

const TIMER: &str = "kctl-certs.timer";
const SERVICE: &str = "kctl-certs.service";
const TIMER_TEMPLATE: &str = include_str!("../../../../units/kctl-certs.timer");
const SERVICE_TEMPLATE: &str = include_str!("../../../../units/kctl-certs.service");

fn service() -> Result<File> {
    let text = render(SERVICE_TEMPLATE, &[("KCTL", format!("{PROGRAMS}/kctl"))])?;
    Ok(File::public(Path::new(UNITS).join(SERVICE), text))
}

fn timer() -> File {
    File::public(Path::new(UNITS).join(TIMER), TIMER_TEMPLATE)
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    let mut reasons = files::differences(&[service()?]);
    reasons.extend(context.unit_differences(TIMER, &[timer()]).await?);
    Ok(Check::of(reasons))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    files::write_all(context, &[service()?])?;
    context.run_unit(TIMER, &[timer()]).await
}
