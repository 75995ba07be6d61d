//! What a container runs after its start and before its end.

use std::time::Duration;

use api::core::{Container, LifecycleHandler, Pod};

use super::client::Runtime;
use crate::pod::spec;
use crate::probe::run::{self, Action, Target};

/// Runs a hook; the error is the text of the event.
pub async fn run(
    handler: &LifecycleHandler,
    pod: &Pod,
    container: &Container,
    target: &Target,
    runtime: &Runtime,
    timeout: Duration,
) -> Result<(), String> {
    let whole = |what: String, error: String| {
        format!("{what} for Container \"{}\" in Pod \"{}\" failed - error: {error}", container.name, spec::described(pod))
    };
    if let Some(exec) = &handler.exec {
        let action = Action { exec: Some(exec.clone()), ..Action::default() };
        let command = exec.command.as_deref().unwrap_or_default().join(" ");
        return match run::run(&action, container, target, runtime, timeout).await {
            Ok(_) => Ok(()),
            Err(output) => {
                Err(whole(format!("Exec lifecycle hook ([{command}])"), format!("command failed, message: {output:?}")))
            }
        };
    }
    if let Some(get) = &handler.http_get {
        let action = Action { http: Some(get.clone()), ..Action::default() };
        // Any answer is one: only that the request could not be made is a failure, or a status that says so.
        let path = get.path.as_deref().unwrap_or_default();
        return match run::run(&action, container, target, runtime, timeout).await {
            Ok(_) => Ok(()),
            Err(error) => Err(whole(format!("HTTP lifecycle hook ({path})"), error)),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)).min(timeout);
        tokio::time::sleep(time).await;
    }
    Ok(())
}
