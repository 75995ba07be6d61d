//! A controller as the function that the workers of its queue call.

use std::sync::Arc;

/// One method of the controller, for [`client::controller::run`].
pub(crate) fn of<C, K, F>(controller: Arc<C>, reconcile: fn(Arc<C>, K) -> F) -> impl Fn(K) -> F + Clone + Send + Sync + 'static
where
    C: Send + Sync + 'static,
    K: 'static,
    F: 'static,
{
    move |key| reconcile(controller.clone(), key)
}
