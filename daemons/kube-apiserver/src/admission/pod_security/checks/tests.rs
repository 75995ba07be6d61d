use machinery::meta;
use serde_json::json;

use super::*;

/// A pod that the strictest level allows.
fn good() -> Value {
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "i", "securityContext": context}], "containers": [{"name": "a", "securityContext": context}],
        "ephemeralContainers": [{"name": "e", "securityContext": context}]})
}

/// Sets `value` at the path in the good pod.
fn check(policy: (Level, u32), path: &[&str], value: Value, expected: &str) {
    let mut spec = good();
    let holder = match path[0] {
        "a" => &mut spec["containers"][0],
        "e" => &mut spec["ephemeralContainers"][0],
        _ => &mut spec,
    };
    let path = if matches!(path[0], "a" | "e") { &path[1..] } else { path };
    meta::set_path(holder, path, value);
    check_spec(policy, &spec, &json!({}), expected);
}

fn check_spec((level, minor): (Level, u32), spec: &Value, annotations: &Value, expected: &str) {
    let version = (minor != 0).then_some(minor);
    let pod = Pod { annotations: annotations.as_object(), spec };
    assert_eq!(details(&evaluate(LevelVersion { level, version }, pod)), expected, "{spec}");
}

const BASE: (Level, u32) = (Level::Baseline, 0);
const STRICT: (Level, u32) = (Level::Restricted, 0);

#[test]
fn the_good_pod_is_good() {
    for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
        check_spec((level, 0), &good(), &json!({}), "");
    }
}

#[test]
fn a_plain_pod() {
    let plain = json!({"containers": [{"name": "nginx"}]});
    check_spec(BASE, &plain, &json!({}), "");
    let all = "allowPrivilegeEscalation != false (container \"nginx\" must set securityContext.allowPrivilegeEscalation=false), \
               unrestricted capabilities (container \"nginx\" must set securityContext.capabilities.drop=[\"ALL\"]), \
               runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true), \
               seccompProfile (pod or container \"nginx\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    check_spec(STRICT, &plain, &json!({}), all);
    let mut windows = plain.clone();
    windows["os"] = json!({"name": "windows"});
    check_spec(
        STRICT,
        &windows,
        &json!({}),
        "runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true)",
    );
    let old = "allowPrivilegeEscalation != false (container \"nginx\" must set securityContext.allowPrivilegeEscalation=false), \
               runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true)";
    check_spec((Level::Restricted, 18), &plain, &json!({}), old);
}

#[test]
fn baseline_rules() {
    check(BASE, &["hostPID"], json!(true), "host namespaces (hostPID=true)");
    let volume = json!([{"name": "v", "hostPath": {"path": "/"}}]);
    check(BASE, &["volumes"], volume.clone(), "hostPath volumes (volume \"v\")");
    check(STRICT, &["volumes"], volume, "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")");
    check(BASE, &["a", "ports"], json!([{"hostPort": 80}, {"hostPort": 9}]), "hostPort (container \"a\" uses hostPorts 80, 9)");
    let privileged = ["e", "securityContext", "privileged"];
    check(BASE, &privileged, json!(true), "privileged (container \"e\" must not set securityContext.privileged=true)");
    let add = ["a", "securityContext", "capabilities", "add"];
    let reason = "(container \"a\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)";
    check(BASE, &add, json!(["NET_ADMIN", "CHOWN"]), &format!("non-default capabilities {reason}"));
    check(STRICT, &add, json!(["NET_ADMIN"]), &format!("unrestricted capabilities {reason}"));
    check(STRICT, &add, json!(["NET_BIND_SERVICE"]), "");
    let proc_mount = ["a", "securityContext", "procMount"];
    let reason = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
    check(BASE, &proc_mount, json!("Unmasked"), reason);
    check(STRICT, &proc_mount, json!("Unmasked"), reason);
    let host = json!({"httpGet": {"host": "h"}});
    check(
        BASE,
        &["a", "livenessProbe"],
        host.clone(),
        "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
    );
    check((Level::Baseline, 33), &["a", "livenessProbe"], host, "");
    let windows = ["securityContext", "windowsOptions", "hostProcess"];
    check(BASE, &windows, json!(true), "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)");
}

#[test]
fn rules_that_grew() {
    let sysctl = json!([{"name": "net.ipv4.tcp_rmem"}]);
    check(BASE, &["securityContext", "sysctls"], sysctl.clone(), "");
    check((Level::Baseline, 31), &["securityContext", "sysctls"], sysctl, "forbidden sysctls (net.ipv4.tcp_rmem)");
    let engine = json!({"type": "container_engine_t"});
    let reason = "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")";
    check(BASE, &["securityContext", "seLinuxOptions"], engine.clone(), "");
    check((Level::Baseline, 30), &["securityContext", "seLinuxOptions"], engine, reason);
    let user = json!({"user": "u", "role": "r"});
    let reason =
        "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: user may not be set; role may not be set)";
    check(BASE, &["a", "securityContext", "seLinuxOptions"], user, reason);
}

#[test]
fn users_and_profiles() {
    let reason = "runAsUser=0 (container \"a\" must not set runAsUser=0)";
    check(STRICT, &["a", "securityContext", "runAsUser"], json!(0), reason);
    check((Level::Restricted, 22), &["a", "securityContext", "runAsUser"], json!(0), "");
    let reason = "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)";
    check(STRICT, &["securityContext", "runAsNonRoot"], json!(false), reason);
    let mut spaced = good();
    spaced["hostUsers"] = json!(false);
    spaced["securityContext"]["runAsNonRoot"] = json!(false);
    check_spec(STRICT, &spaced, &json!({}), "");
    let unconfined = json!({"type": "Unconfined"});
    let reason = "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")";
    check(BASE, &["securityContext", "seccompProfile"], unconfined.clone(), reason);
    let reason = "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")";
    check(BASE, &["a", "securityContext", "appArmorProfile"], unconfined, reason);
}

#[test]
fn annotations_count_too() {
    let app_armor = json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"});
    let reason = "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
                  \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")";
    check_spec(BASE, &good(), &app_armor, reason);
    let seccomp = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    let reason = "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")";
    check_spec((Level::Baseline, 18), &good(), &seccomp, reason);
    check_spec(BASE, &good(), &seccomp, "");
}

/// What a rule overrides is a rule, and versions grow.
#[test]
fn the_table_is_consistent() {
    for check in CHECKS {
        assert!(check.overrides.is_empty() || CHECKS.iter().any(|other| other.id == check.overrides), "{}", check.id);
        assert!(check.versions.is_sorted_by_key(|(since, _)| *since), "{}", check.id);
    }
    let order: Vec<_> = CHECKS.iter().map(|check| (check.level, check.id)).collect();
    assert!(order.is_sorted(), "messages name violations in this order");
}
