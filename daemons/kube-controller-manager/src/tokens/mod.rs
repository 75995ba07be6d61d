//! serviceaccount-token-controller and legacy-serviceaccount-token-cleaner-controller: tokens that lie in Secrets.
//!
//! A Secret of type `kubernetes.io/service-account-token` that names an account gets its token, and goes with the account.

pub(crate) mod clean;
mod decide;
mod unused;

use std::sync::Arc;

use api::Kind;
use api::Meta;
use api::core::{Secret, ServiceAccount};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, Informer, InformerConfig, ObjectKey};
use pki::TokenSigner;

use self::decide::{ACCOUNT_NAME, Plan, account_of};
use crate::context::Context;
use crate::error::{During, Error, GoneIsDone};

pub(crate) const NAME: &str = "serviceaccount-token-controller";
const TYPE: &str = "kubernetes.io/service-account-token";
/// The index of these Secrets by the account they name, as `namespace/name`.
const BY_ACCOUNT: &str = "account";

/// A Secret and the account that it named, which is no longer to be found out when the Secret is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    secret: ObjectKey,
    account: String,
}

struct Controller {
    ctx: Arc<Context>,
    secrets: Informer<Secret>,
    client: Client,
    signer: TokenSigner,
}

/// The Secrets that are tokens of service accounts.
fn secrets(client: &Client) -> Informer<Secret> {
    let config = InformerConfig {
        field_selector: Some(format!("type={TYPE}")),
        indexes: vec![(BY_ACCOUNT, by_account as _)],
        ..InformerConfig::default()
    };
    Informer::start(client, config)
}

fn by_account(meta: &Meta, bytes: &[u8]) -> Vec<String> {
    let object = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let account = object["metadata"]["annotations"][ACCOUNT_NAME].as_str().filter(|name| !name.is_empty());
    account.map(|name| format!("{}/{name}", meta.namespace)).into_iter().collect()
}

pub(crate) async fn run(ctx: Arc<Context>) {
    let Some(path) = ctx.settings.service_account_key.clone() else {
        tracing::info!(controller = NAME, "not started: --service-account-private-key-file is not given");
        return;
    };
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let signer = match read.and_then(|text| TokenSigner::from_pem(&text).map_err(|error| error.to_string())) {
        Ok(signer) => signer,
        Err(error) => {
            tracing::error!(controller = NAME, path = %path.display(), error, "not started: the key cannot be read");
            return;
        }
    };
    // Upstream's, too, acts as the daemon itself.
    let client = ctx.root().clone();
    let secrets = secrets(&client);
    secrets.synced().await;
    let accounts = ctx.informers.service_accounts.clone();
    accounts.synced().await;
    let queue: Queue<Key> = Queue::new();
    let q = queue.clone();
    secrets.subscribe(move |change| {
        if let Ok(secret) = change.object().parse() {
            q.add(Key { secret: change.object().key(), account: account_of(&secret).0.to_owned() });
        }
    });
    let (q, tokens) = (queue.clone(), secrets.clone());
    accounts.subscribe(move |change| {
        if let Change::Deleted(account) = change {
            for secret in tokens.by_index(BY_ACCOUNT, &format!("{}/{}", account.namespace, account.name)) {
                q.add(Key { secret: secret.key(), account: account.name.clone() });
            }
        }
    });
    let workers = ctx.settings.workers.service_account_tokens;
    let controller = Arc::new(Controller { ctx, secrets, client, signer });
    client::controller::run(NAME, queue, workers, crate::worker::of(controller, reconcile)).await;
}

async fn reconcile(this: Arc<Controller>, key: Key) -> Result<Outcome, Error> {
    let Some(cached) = this.secrets.get_key(&key.secret) else {
        return this.forget(&key).await;
    };
    let secret = cached.parse()?;
    let account = this.account(&secret).await?;
    let root_ca = this.ctx.settings.root_ca.as_deref();
    match (decide::decide(&secret, account.as_ref(), root_ca), account) {
        (Plan::Delete, _) => {
            let uid = DeleteParams::uid(secret.uid());
            match this.client.delete::<Secret>(&key.secret.namespace, &key.secret.name, &uid).await.gone_is_done() {
                // Its namesake stays.
                Err(error) if error.is_conflict() => {}
                deleted => deleted.during(|| format!("deleting the token {}", key.secret))?,
            }
        }
        (Plan::Fill(_), Some(account)) => this.fill(&secret, &account).await?,
        (Plan::Fill(_) | Plan::Nothing, _) => {}
    }
    Ok(Outcome::Done)
}

impl Controller {
    /// The account that a Secret means. One that the cache does not have is asked for: it may be new.
    async fn account(&self, secret: &Secret) -> Result<Option<ServiceAccount>, Error> {
        let (namespace, name) = (secret.namespace(), account_of(secret).0);
        if name.is_empty() {
            return Ok(None);
        }
        let cached = self.ctx.informers.service_accounts.get(namespace, name).map(|account| account.parse()).transpose()?;
        if let Some(account) = cached.filter(|account| decide::is_meant(secret, account)) {
            return Ok(Some(account));
        }
        match self.client.get::<ServiceAccount>(namespace, name).await {
            Ok(account) => Ok(Some(account).filter(|account| decide::is_meant(secret, account))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("reading the ServiceAccount {namespace}/{name}")),
        }
    }

    async fn fill(&self, cached: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let key = ObjectKey::of(cached);
        let root_ca = self.ctx.settings.root_ca.as_deref();
        // A token that was written already must not be replaced: the cache may be behind.
        let live = match self.client.get::<Secret>(&key.namespace, &key.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            live => live.during(|| format!("reading the token {key}"))?,
        };
        if live.resource_version() != cached.resource_version() {
            return Ok(()); // its change is on its way
        }
        let Plan::Fill(missing) = decide::decide(&live, Some(account), root_ca) else { return Ok(()) };
        let token = match missing.token {
            true => Some(self.signer.sign(&decide::claims(&live, account)).map_err(|e| Error::Other(format!("signing: {e}")))?),
            false => None,
        };
        match self.client.update(&decide::filled(&live, account, missing, root_ca, token)).await {
            Err(error) if !error.is_conflict() && !error.is_not_found() => {
                Err(error).during(|| format!("filling the token {key}"))
            }
            _ => Ok(()),
        }
    }

    /// A Secret is gone: its account does not list it any more.
    async fn forget(&self, key: &Key) -> Result<Outcome, Error> {
        let namespace = &key.secret.namespace;
        let listed = |account: &ServiceAccount| decide::without(account, &key.secret.name);
        let cached = self.ctx.informers.service_accounts.get(namespace, &key.account).map(|a| a.parse()).transpose()?;
        if cached.as_ref().and_then(listed).is_none() {
            return Ok(Outcome::Done);
        }
        let live = match self.client.get::<ServiceAccount>(namespace, &key.account).await {
            Err(error) if error.is_not_found() => return Ok(Outcome::Done),
            live => live.during(|| format!("reading the ServiceAccount {namespace}/{}", key.account))?,
        };
        let Some(without) = listed(&live) else { return Ok(Outcome::Done) };
        match self.client.update(&without).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            updated => updated.during(|| format!("removing {} from its ServiceAccount", key.secret)).map(|_| Outcome::Done),
        }
    }
}
