//! How objects are printed: kubectl's table layout for people, and exact forms for programs.

pub mod columns;
pub mod format;
mod gotemplate;
mod kyaml;
pub mod table;
pub mod tabs;

pub use columns::CustomColumns;
pub use format::{Format, OutputFlags, Printer};
pub use table::{Table, TableOptions};
