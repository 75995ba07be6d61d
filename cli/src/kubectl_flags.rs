//! Every flag of kubectl 1.36, by command: `COMMAND: [LETTER/]FLAG…` in `kubectl_flags.txt`.

use clap::CommandFactory;

/// What kctl has not: each is in the README's list of limits. The list may only get shorter.
const LEFT_OUT: [(&str, &[&str]); 3] = [
    (
        "kustomize",
        &[
            "as-current-user",
            "enable-alpha-plugins",
            "enable-helm",
            "env",
            "helm-api-versions",
            "helm-command",
            "helm-debug",
            "helm-kube-version",
            "load-restrictor",
            "mount",
            "network",
            "network-name",
        ],
    ),
    ("proxy", &["keepalive"]),
    // They stand in kubectl's help; nothing is done with them.
    ("run", &["filename", "kustomize", "recursive"]),
];

#[test]
fn every_flag_of_kubectl() {
    let (mut missing, mut root) = (Vec::new(), crate::Kctl::command());
    root.build();
    for line in include_str!("kubectl_flags.txt").lines() {
        let (name, flags) = line.split_once(": ").unwrap();
        let command = name.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
        let left_out = LEFT_OUT.iter().find(|(command, _)| *command == name).map_or(&[][..], |(_, flags)| flags);
        for flag in flags.split(' ') {
            let (letter, flag) = flag.split_once('/').map_or((None, flag), |(letter, flag)| (letter.chars().next(), flag));
            let known = |argument: &clap::Arg| {
                let names = argument.get_long_and_visible_aliases().into_iter().flatten();
                let all = names.chain(argument.get_all_aliases().into_iter().flatten());
                let letters = argument.get_short_and_visible_aliases().into_iter().flatten();
                all.into_iter().any(|name| name == flag)
                    && letter.is_none_or(|letter| letters.into_iter().any(|one| one == letter))
            };
            let has = command.is_some_and(|command| command.get_arguments().any(known));
            if has == left_out.contains(&flag) {
                missing.push(format!("{name} --{flag}{}", if has { " is there" } else { "" }));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
