//! Switches as Go's programs have them: `--watch`, `--watch=true`, `--watch=false`, and the last of several counts.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};
use daemon::feature_gates::parse_bool;

/// The command, all of whose switches may be told their value.
pub fn with_values(command: Command) -> Command {
    command.args_override_self(true).mut_args(with_value).mut_subcommands(with_values)
}

fn with_value(arg: Arg) -> Arg {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_parser(parse_bool);
    }
    let is_switch = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    if is_switch { arg.value_parser(parse_bool) } else { arg }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, PartialEq, Parser)]
    struct Line {
        #[arg(short, long)]
        watch: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true")]
        wait: bool,
        #[arg(short, long)]
        output: Option<String>,
        #[arg(short)]
        files: Vec<String>,
        words: Vec<String>,
    }

    fn read(line: &str) -> Result<Line, String> {
        let command = with_values(<Line as clap::CommandFactory>::command());
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        <Line as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn switches() {
        let check = |line: &str, want: (bool, bool, bool)| {
            let got = read(line).unwrap();
            assert_eq!((got.watch, got.tty, got.wait), want, "{line}");
        };
        check("x", (false, false, true));
        check("x -wt", (true, true, true));
        check("x -tw --wait", (true, true, true));
        check("x --watch=true --tty=false --wait=0", (true, false, false));
        check("x -w=false -t=T --wait=False", (false, true, false));
        check("x --watch --watch=false", (false, false, true));
        check("x -wo json", (true, false, true));
        assert!(read("x --watch=maybe").unwrap_err().contains("strconv.ParseBool: parsing \"maybe\": invalid syntax"));
    }

    #[test]
    fn what_comes_after_a_switch_is_no_value() {
        let got = read("x --watch pod -t web -f a -o yaml -f b -o json").unwrap();
        assert_eq!(got.words, ["pod", "web"]);
        assert_eq!((got.files, got.output.as_deref()), (vec!["a".to_owned(), "b".into()], Some("json")));
    }
}
