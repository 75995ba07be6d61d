//! One plugin: what it is asked, and what is remembered of its answers.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kms::tonic;
use kms::v2::{DecryptRequest, EncryptRequest, EncryptedDekSourceType, EncryptedObject, StatusRequest, StatusResponse};
use machinery::field::aggregate;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use super::envelope::{self, SEED_BYTES, Source};
use super::keys::Keys;
use super::status::{VERSIONS, faults, hash};
use super::{Refusal, Settings};

/// Between two questions to a plugin that is well.
const POLL: Duration = Duration::from_secs(60);
/// To one that is not.
const RETRY: Duration = Duration::from_secs(10);
/// How long a seed may seal new values without the plugin having said that its key is still the current one.
const COAST: Duration = Duration::from_secs(180);

/// A plugin and the seed that seals new values. Asks about the plugin's state until it is dropped.
pub struct Plugin {
    pub settings: Settings,
    client: kms::Client,
    writing: ArcSwapOption<Writing>,
    opened: Keys,
    /// Of the last question.
    health: Mutex<Result<(), String>>,
    /// What the plugin spoke first. Whoever holds it asks; others wait.
    version: tokio::sync::Mutex<Option<String>>,
}

/// What new values are sealed by.
#[derive(Clone)]
struct Writing {
    /// As stored beside a value, without the value.
    form: EncryptedObject,
    source: Arc<Source>,
    expires: Instant,
}

/// When a question is left out after its turn was waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unless {
    Never,
    /// Somebody else's answer is as good.
    Known,
}

impl Plugin {
    /// Must be called inside a runtime.
    pub fn start(settings: Settings) -> Arc<Self> {
        let plugin = Arc::new(Self {
            client: kms::connect(settings.socket.clone()),
            settings,
            writing: ArcSwapOption::empty(),
            opened: Keys::default(),
            health: Mutex::new(Err("not asked yet".to_owned())),
            version: tokio::sync::Mutex::default(),
        });
        let weak = Arc::downgrade(&plugin);
        tokio::spawn(async move {
            while let Some(plugin) = weak.upgrade() {
                let well = plugin.probe().await;
                drop(plugin);
                tokio::time::sleep(if well { POLL } else { RETRY }).await;
            }
        });
        plugin
    }

    /// What the plugin's last answer said.
    pub fn health(&self) -> Result<(), String> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that new values are sealed by.
    pub fn key_id(&self) -> Option<String> {
        self.writing.load().as_ref().map(|writing| writing.form.key_id.clone())
    }

    /// The stored form of a value, without its prefix.
    ///
    /// # Errors
    /// The plugin was not asked yet, or said too long ago that its key is current.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let writing = self.writing.load();
        let writing = writing.as_ref().ok_or(Refusal::AskFirst)?;
        if Instant::now() > writing.expires {
            let why = format!("encryptedDEKSource with keyID hash {:?} expired", hash(&writing.form.key_id));
            return Err(Refusal::Because(why));
        }
        let sealed = writing.source.seal(place, plain).ok_or_else(|| "it cannot be encrypted".to_owned())?;
        let object = EncryptedObject { encrypted_data: sealed, ..writing.form.clone() };
        Ok(kms::Message::encode_to_vec(&object))
    }

    /// The value of what [`Plugin::seal`] or another server made.
    ///
    /// # Errors
    /// The plugin has to open the value's source first, or what it opened does not fit.
    pub fn open(&self, place: &str, kept: &[u8]) -> Result<Vec<u8>, Refusal> {
        let object = envelope::decode(kept)?;
        let source = self.opened.get(&envelope::name_of(&object), Instant::now()).ok_or(Refusal::AskFirst)?;
        Ok(source.open(place, &object.encrypted_data).ok_or_else(|| "cipher: message authentication failed".to_owned())?)
    }

    /// Asks for the seed of new values, if there is none yet.
    ///
    /// # Errors
    /// Why there is none still.
    pub async fn prime(&self) -> Result<(), String> {
        self.ask_status(Unless::Known).await
    }

    /// Has the plugin open the source of a value.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn fetch(&self, kept: &[u8]) -> Result<(), String> {
        let object = envelope::decode(kept)?;
        let kind = object.encrypted_dek_source_type();
        let name = envelope::name_of(&object);
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source,
            uid: uid(),
            key_id: object.key_id,
            annotations: object.annotations,
        };
        let mut client = self.client.clone();
        let answer = self.in_time(client.decrypt(request)).await.map_err(|why| format!("failed to decrypt DEK, error: {why}"))?;
        self.opened.insert(name, Arc::new(Source::new(kind, &answer.plaintext)?), Instant::now());
        Ok(())
    }

    /// Asks now, besides at its regular times: whether the plugin is well, and its current key the one that new values are sealed by.
    pub async fn probe(&self) -> bool {
        self.ask_status(Unless::Never).await.is_ok()
    }

    async fn ask_status(&self, unless: Unless) -> Result<(), String> {
        let mut version = self.version.lock().await;
        if unless == Unless::Known && self.writing.load().is_some() {
            return Ok(());
        }
        let result = self.check(&mut version).await;
        if let Err(why) = &result {
            tracing::warn!(name = self.settings.name, why, "kms plugin failed health check probe");
        }
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&result);
        result
    }

    async fn check(&self, version: &mut Option<String>) -> Result<(), String> {
        let name = &self.settings.name;
        let mut client = self.client.clone();
        let status: StatusResponse = self.in_time(client.status(StatusRequest {})).await.map_err(|why| {
            format!("failed to perform status section of the healthz check for KMS Provider {name}, error: {why}")
        })?;
        let mut wrong = faults(&status, version.as_deref());
        if version.is_none() && VERSIONS.contains(&status.version.as_str()) {
            *version = Some(status.version);
        }
        if envelope::validate_key_id(&status.key_id).is_ok() {
            wrong.extend(self.rotate(&status.key_id).await.err());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("kmsv2 Provider {name} is not healthy, error: {}", aggregate(wrong)))
    }

    /// New values are sealed by this key of the plugin from now on. A failure leaves what was, until it expires.
    async fn rotate(&self, current: &str) -> Result<(), String> {
        // Before the plugin is asked: the time is an upper bound.
        let expires = Instant::now() + COAST;
        if let Some(writing) = self.writing.load_full().filter(|writing| writing.form.key_id == current) {
            self.writing.store(Some(Arc::new(Writing { expires, ..(*writing).clone() })));
            return Ok(());
        }
        let failed = |why: String, encrypted_by: &str| {
            format!(
                "failed to rotate DEK, error: {why}, statusKeyIDHash={:?}, encryptKeyIDHash={:?}",
                hash(current),
                hash(encrypted_by)
            )
        };
        let mut seed = vec![0; SEED_BYTES];
        SystemRandom::new().fill(&mut seed).map_err(|_| "the kernel gives no random bytes".to_owned())?;
        let kind = EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;
        let source = Arc::new(Source::new(kind, &seed)?);
        let mut client = self.client.clone();
        let answer = self.in_time(client.encrypt(EncryptRequest { plaintext: seed, uid: uid() })).await;
        let answer = answer.map_err(|why| failed(format!("failed to encrypt DEK, error: {why}"), ""))?;
        let form = EncryptedObject {
            encrypted_data: Vec::new(),
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            encrypted_dek_source_type: kind.into(),
        };
        envelope::validate(&form).map_err(|why| failed(why, &form.key_id))?;
        if form.key_id != current {
            return Err(failed("the plugin encrypted by another key than its status names".to_owned(), &form.key_id));
        }
        // What is written can be read at once.
        self.opened.insert(envelope::name_of(&form), source.clone(), Instant::now());
        self.writing.store(Some(Arc::new(Writing { form, source, expires })));
        tracing::info!(name = self.settings.name, key = hash(current), "new values are sealed by a new seed");
        Ok(())
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Result<T, String> {
        match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("rpc error: code = {:?} desc = {}", status.code(), status.message())),
            Err(_elapsed) => Err("rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()),
        }
    }
}

/// Names a request in the plugin's log.
fn uid() -> String {
    let mut bytes = [0; 16];
    // Without randomness the name is not unique; nothing else depends on it.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
