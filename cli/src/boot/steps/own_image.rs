//! The image of this very program in the container runtime: what the control plane and cluster DNS run.

use anyhow::{Context as _, Result};

use crate::boot::context::Context;
use crate::boot::image;
use crate::boot::ledger::Effect;
use crate::boot::plan::Check;

pub(super) async fn check(context: &Context) -> Result<Check> {
    let reference = context.image_reference();
    let there = context.runtime.images().await?.contains(&reference);
    Ok(if there { Check::Done } else { Check::Todo(format!("{reference} is not in the runtime")) })
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    let reference = context.image_reference();
    context.note(Effect::Image { reference: reference.clone() })?;
    let executable = context.executable.clone();
    let archive =
        tokio::task::spawn_blocking(move || image::archive_of(&executable, &reference)).await.context("making the image")??;
    image::import(context.runtime, archive).await
}
