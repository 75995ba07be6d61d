//! etcd.service, with TLS on its own authority.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::packages::find;
use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::ledger::Effect;
use crate::boot::manifest::unit_arguments;
use crate::boot::paths::{ETCD_DATA, PKI, UNITS};
use crate::boot::plan::Check;
use crate::boot::template::render;

const UNIT: &str = "etcd.service";
const TEMPLATE: &str = include_str!("../../../../units/etcd.service");

fn unit_file(context: &Context) -> Result<File> {
    let binary = match &context.cluster.etcd_binary {
        Some(path) => path.clone(),
        None => find("etcd").context("etcd is not installed")?,
    };
    let unit = render(
        TEMPLATE,
        &[
            ("ETCD", binary.display().to_string()),
            ("NAME", context.node_name.clone()),
            ("DATA", ETCD_DATA.to_owned()),
            ("PKI", PKI.to_owned()),
            ("ARGUMENTS", unit_arguments(&context.cluster.daemons.etcd)),
        ],
    )?;
    Ok(File::public(Path::new(UNITS).join(UNIT), unit))
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(context.unit_differences(UNIT, &[unit_file(context)?]).await?))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    files::make_directory(context, Path::new(ETCD_DATA).parent().context("a parent")?)?;
    context.note(Effect::Data { path: ETCD_DATA.into() })?;
    if !Path::new(ETCD_DATA).exists() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(ETCD_DATA).context("making etcd's directory")?;
    }
    context.run_unit(UNIT, &[unit_file(context)?]).await
}
