//! Carries out the claims that [`crate::owner`] decides: adopts what is nobody's, releases what matches no more.

use api::Kind;
use client::{Client, ObjectKey, Patch, PatchParams};
use machinery::selector::LabelSelector;

use crate::error::{During, Error};
use crate::fence::Fence;
use crate::owner::{self, Claim};

/// [`claim_all_with`], for dependents without a finalizer.
pub(crate) async fn claim_all<O: Kind, D: Kind>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<D>,
    fence: &Fence<D>,
) -> Result<Vec<D>, Error> {
    claim_all_with(client, owner, selector, candidates, fence, None).await
}

/// The candidates that belong to `owner` afterwards. What is adopted gets the finalizer, what is released loses it.
///
/// Before the first adoption the owner is read from the server: a cached view of an owner that was deleted, and made anew
/// under the same name, must not adopt.
pub(crate) async fn claim_all_with<O: Kind, D: Kind>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<D>,
    fence: &Fence<D>,
    finalizer: Option<&str>,
) -> Result<Vec<D>, Error> {
    let key = ObjectKey::of(owner);
    let mut claimed = Vec::with_capacity(candidates.len());
    let mut may_adopt = None;
    for candidate in candidates {
        match owner::claim(owner.meta(), selector, candidate.meta()) {
            Claim::Keep => claimed.push(candidate),
            Claim::Ignore => {}
            Claim::Adopt => {
                let may = match may_adopt {
                    Some(known) => known,
                    None => *may_adopt.insert(is_alive(client, owner).await?),
                };
                if may {
                    let patch = owner::adopt_patch(&owner::controller_ref(owner), candidate.uid(), finalizer);
                    claimed.extend(patch_owner(client, &candidate, patch, &key, fence).await?);
                }
            }
            Claim::Release => {
                let patch = owner::release_patch(owner.uid(), candidate.uid(), finalizer);
                patch_owner(client, &candidate, patch, &key, fence).await?;
            }
        }
    }
    Ok(claimed)
}

async fn is_alive<O: Kind>(client: &Client, owner: &O) -> Result<bool, Error> {
    match client.get::<O>(owner.namespace(), owner.name()).await {
        Ok(live) => Ok(live.uid() == owner.uid() && live.meta().deletion_timestamp.is_none()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error).during(|| format!("reading {} before adopting", O::KIND)),
    }
}

/// The object after the patch; `None` when it is gone, or another has taken its name.
async fn patch_owner<D: Kind>(
    client: &Client,
    object: &D,
    patch: serde_json::Value,
    owner: &ObjectKey,
    fence: &Fence<D>,
) -> Result<Option<D>, Error> {
    let params = PatchParams::default();
    match client.patch::<D>(object.namespace(), object.name(), &Patch::Strategic(patch), &params).await {
        Ok(patched) => {
            fence.wrote(owner, &patched);
            Ok(Some(patched))
        }
        // A uid that differs is a conflict, or invalid since uids are immutable.
        Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => Ok(None),
        Err(error) => Err(error).during(|| format!("changing the owner of {}", ObjectKey::of(object))),
    }
}
