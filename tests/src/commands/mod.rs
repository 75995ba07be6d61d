//! Command lines and what they must print, in `tests/commands/*.txt`.
//!
//! A file is a session against an empty cluster without nodes or controllers. Its lines, by what they begin with:
//!
//! | | |
//! |---|---|
//! | `$` | a command line, without the client's name; `$kctl` and `$kubectl` are for that client only |
//! | `<` | a line of its standard input |
//! | `>` | a line of its standard output |
//! | `!` | a line of its standard error |
//! | `?` | its exit code, when that is not 0 |
//! | `[kubectl <= 1.NN]` | from here on, what these releases of kubectl print instead |
//! | `@` | a file in the directory that commands run in; `\|` lines are its content |
//! | `#` | a remark |
//!
//! A command line may begin with `NAME=value`: variables of its environment. One that ends with `&` goes on for ever: it is ended
//! when it has printed what it must. What differs from run to run (ages, uids, versions, addresses) is replaced by a word on
//! both sides: see [`normal`].

pub mod normal;
pub mod run;
pub mod script;
