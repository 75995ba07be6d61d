//! Typed label selectors, compiled.

use api::metav1;
use machinery::selector::{LabelSelector, SelectorError};

/// `metav1.LabelSelector` compiled for matching.
pub(crate) fn compile(selector: &metav1::LabelSelector) -> Result<LabelSelector, SelectorError> {
    // The type holds strings and lists of strings: it always encodes.
    LabelSelector::from_label_selector(&serde_json::to_value(selector).expect("selectors encode"))
}
