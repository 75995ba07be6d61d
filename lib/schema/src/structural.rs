//! Structural schemas of CustomResourceDefinitions, compiled into the same arena as the built-in types.
