//! Admission policies: rules in CEL that refuse objects or change them (KEP-3488, KEP-3962).
//!
//! | Question | Answer |
//! |---|---|
//! | What is a policy or binding, compiled? | [`definition`] |
//! | Which parameters does a binding give it? | [`params`] |
//! | What does a ValidatingAdmissionPolicy say of an object? | [`verdict`] |
//! | Who is asked, and what comes of the answers? | [`validating`], [`mutating`] |
//! | What does a mutation make of an object? | [`mutation`] |
//! | What is wrong with its expressions, given the types it matches? | [`type_check`], written by [`status`] |

mod definition;
mod mutating;
mod mutation;
mod params;
mod status;
mod type_check;
mod validating;
mod verdict;

pub(super) use mutating::Mutating;
pub(super) use validating::Validating;
