//! Resource quotas: what an object takes of a namespace's quotas, which quotas cover it, whether it fits.
//!
//! The API server charges quotas when objects are written, the resourcequota controller counts again what is there: both must
//! agree on every amount, so the counting is here, once.

mod charge;
mod evaluator;
pub mod limited;
mod scope;

use crate::pod::resources::Amounts;

pub use charge::{Charge, Denied, Subject, charge};
pub use evaluator::{Evaluator, IGNORED};
pub use limited::Limited;
pub use scope::Selector;

/// `cpu=1,pods=3`, as messages show amounts.
pub fn pretty(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

/// Amounts as they stand in an object.
pub fn to_value(amounts: &Amounts) -> serde_json::Value {
    amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect::<serde_json::Map<_, _>>().into()
}

/// The amounts of these names.
fn mask<'n>(amounts: &Amounts, names: impl IntoIterator<Item = &'n String>) -> Amounts {
    names.into_iter().filter_map(|name| Some((name.clone(), amounts.get(name)?.clone()))).collect()
}
