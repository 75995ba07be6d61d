//! Pods, and the pod templates of everything that makes them.

use serde_json::Value;

use super::writer::{Writer, age, controller, items, or_none, show, time, truth};

pub fn pod(out: &mut Writer, pod: &Value, now: jiff::Timestamp) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    out.name_and_namespace(pod);
    out.some(0, "Priority", &spec["priority"]);
    out.some(0, "Priority Class Name", &spec["priorityClassName"]);
    out.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    out.some(0, "Service Account", &spec["serviceAccountName"]);
    match show(&spec["nodeName"]) {
        node if node.is_empty() => out.field(0, "Node", "<none>"),
        node => out.field(0, "Node", format!("{node}/{}", show(&status["hostIP"]))),
    }
    if status["startTime"].is_string() {
        out.field(0, "Start Time", time(&status["startTime"]));
    }
    out.labels_and_annotations(pod);
    let phase = show(&status["phase"]);
    if machinery::meta::deletion_timestamp(pod).is_some() && phase != "Failed" && phase != "Succeeded" {
        out.field(0, "Status", format!("Terminating (lasts {})", age(&pod["metadata"]["deletionTimestamp"], now)));
        out.field(0, "Termination Grace Period", format!("{}s", show(&pod["metadata"]["deletionGracePeriodSeconds"])));
    } else {
        out.field(0, "Status", phase);
    }
    out.some(0, "Reason", &status["reason"]);
    out.some(0, "Message", &status["message"]);
    out.some(0, "SeccompProfile", &spec["securityContext"]["seccompProfile"]["type"]);
    out.some(0, "LocalhostProfile", &spec["securityContext"]["seccompProfile"]["localhostProfile"]);
    out.field(0, "IP", show(&status["podIP"]));
    if items(&status["podIPs"]).is_empty() {
        out.field(0, "IPs", "<none>");
    } else {
        out.line(0, "IPs:");
        items(&status["podIPs"]).iter().for_each(|ip| out.field(1, "IP", show(&ip["ip"])));
    }
    let owner = controller(pod);
    if !owner.is_empty() {
        out.field(0, "Controlled By", owner);
    }
    out.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        out.line(0, "Resources:");
        resources(out, &spec["resources"], 1);
    }
    if !items(&spec["initContainers"]).is_empty() {
        containers(out, "Init Containers", &spec["initContainers"], &status["initContainerStatuses"], Some(pod), "");
    }
    containers(out, "Containers", &spec["containers"], &status["containerStatuses"], Some(pod), "");
    if !items(&spec["ephemeralContainers"]).is_empty() {
        containers(
            out,
            "Ephemeral Containers",
            &spec["ephemeralContainers"],
            &status["ephemeralContainerStatuses"],
            Some(pod),
            "",
        );
    }
    let conditions = items(&status["conditions"]);
    if !items(&spec["readinessGates"]).is_empty() {
        out.raw("Readiness Gates:\n  Type\tStatus\n");
        for gate in items(&spec["readinessGates"]) {
            let found = conditions.iter().find(|condition| condition["type"] == gate["conditionType"]);
            out.line(1, format!("{} \t{} ", show(&gate["conditionType"]), found.map_or("<none>".into(), |c| show(&c["status"]))));
        }
    }
    if !conditions.is_empty() {
        out.raw("Conditions:\n  Type\tStatus\n");
        conditions
            .iter()
            .for_each(|condition| out.line(1, format!("{} \t{} ", show(&condition["type"]), show(&condition["status"]))));
    }
    volumes(out, &spec["volumes"], "");
    out.field(0, "QoS Class", show(&status["qosClass"]));
    out.labels("Node-Selectors", &spec["nodeSelector"]);
    tolerations(out, "Tolerations", &spec["tolerations"]);
    spread(out, &spec["topologySpreadConstraints"], "");
}

pub fn template(out: &mut Writer, template: &Value) {
    let spec = &template["spec"];
    out.line(0, "Pod Template:");
    out.labels("  Labels", &template["metadata"]["labels"]);
    if template["metadata"]["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        out.annotations("  Annotations", &template["metadata"]["annotations"]);
    }
    out.some(1, "Service Account", &spec["serviceAccountName"]);
    if !items(&spec["initContainers"]).is_empty() {
        containers(out, "Init Containers", &spec["initContainers"], &Value::Null, None, "  ");
    }
    containers(out, "Containers", &spec["containers"], &Value::Null, None, "  ");
    volumes(out, &spec["volumes"], "  ");
    spread(out, &spec["topologySpreadConstraints"], "  ");
    out.some(1, "Priority Class Name", &spec["priorityClassName"]);
    out.labels("  Node-Selectors", &spec["nodeSelector"]);
    tolerations(out, "  Tolerations", &spec["tolerations"]);
}

fn containers(out: &mut Writer, label: &str, list: &Value, statuses: &Value, pod: Option<&Value>, space: &str) {
    let none = if items(list).is_empty() { " <none>" } else { "" };
    out.line(0, format!("{space}{label}:{none}"));
    for container in items(list) {
        let status = items(statuses).iter().find(|status| status["name"] == container["name"]);
        self::container(out, container, status, pod, space);
    }
}

fn container(out: &mut Writer, container: &Value, status: Option<&Value>, pod: Option<&Value>, space: &str) {
    let indent = if space.is_empty() { "" } else { " " };
    out.line(1, format!("{indent}{}:", show(&container["name"])));
    if let Some(status) = status {
        out.field(2, "Container ID", show(&status["containerID"]));
    }
    out.field(2, "Image", show(&container["image"]));
    if let Some(status) = status {
        out.field(2, "Image ID", show(&status["imageID"]));
    }
    for (one, many, field) in [("Port", "Ports", "containerPort"), ("Host Port", "Host Ports", "hostPort")] {
        let ports: Vec<String> = items(&container["ports"]).iter().map(|port| self::port(port, field)).collect();
        out.field(2, if ports.len() > 1 { many } else { one }, or_none(ports.join(", ")));
    }
    out.some(2, "SeccompProfile", &container["securityContext"]["seccompProfile"]["type"]);
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        if !items(&container[field]).is_empty() {
            out.line(2, format!("{title}:"));
            for word in items(&container[field]) {
                show(word).split('\n').for_each(|line| out.line(3, line));
            }
        }
    }
    if let Some(status) = status {
        state(out, "State", &status["state"]);
        if status["lastState"]["terminated"].is_object() {
            state(out, "Last State", &status["lastState"]);
        }
        out.field(2, "Ready", truth(status["ready"] == true));
        out.field(2, "Restart Count", show(&status["restartCount"]));
    }
    resources(out, &container["resources"], 2);
    for (title, field) in [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")] {
        if container[field].is_object() {
            out.field(2, title, probe(&container[field]));
        }
    }
    environment(out, container, pod);
    mounts(out, container);
}

fn port(port: &Value, field: &str) -> String {
    let text = format!("{}/{}", port[field].as_i64().unwrap_or(0), show(&port["protocol"]));
    match show(&port["name"]) {
        name if name.is_empty() => text,
        name => format!("{text} ({name})"),
    }
}

fn state(out: &mut Writer, title: &str, state: &Value) {
    if state["running"].is_object() {
        out.field(2, title, "Running");
        out.field(3, "Started", time(&state["running"]["startedAt"]));
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        out.field(2, title, "Terminated");
        out.some(3, "Reason", &ended["reason"]);
        out.some(3, "Message", &ended["message"]);
        out.field(3, "Exit Code", show(&ended["exitCode"]));
        if ended["signal"].as_i64().is_some_and(|signal| signal > 0) {
            out.field(3, "Signal", show(&ended["signal"]));
        }
        out.field(3, "Started", time(&ended["startedAt"]));
        out.field(3, "Finished", time(&ended["finishedAt"]));
    } else {
        out.field(2, title, "Waiting");
        out.some(3, "Reason", &state["waiting"]["reason"]);
    }
}

fn resources(out: &mut Writer, resources: &Value, level: usize) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(map) = resources[field].as_object().filter(|map| !map.is_empty()) {
            out.line(level, format!("{title}:"));
            map.iter().for_each(|(name, value)| out.field(level + 1, name, show(value)));
        }
    }
}

fn probe(probe: &Value) -> String {
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    );
    if probe["exec"].is_object() {
        format!("exec {} {attributes}", show(&probe["exec"]["command"]))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let host = show(&get["host"]);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let path = show(&get["path"]);
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        format!("http-get {}://{host}:{}{slash}{path} {attributes}", show(&get["scheme"]).to_lowercase(), show(&get["port"]))
    } else if probe["tcpSocket"].is_object() {
        format!("tcp-socket {}:{} {attributes}", show(&probe["tcpSocket"]["host"]), show(&probe["tcpSocket"]["port"]))
    } else if probe["grpc"].is_object() {
        format!("grpc <pod>:{} {} {attributes}", show(&probe["grpc"]["port"]), show(&probe["grpc"]["service"]))
    } else {
        format!("unknown {attributes}")
    }
}

fn environment(out: &mut Writer, container: &Value, pod: Option<&Value>) {
    let optional = |reference: &Value| format!("Optional: {}", reference["optional"] == true);
    if !items(&container["envFrom"]).is_empty() {
        out.line(2, "Environment Variables from:");
        for source in items(&container["envFrom"]) {
            let (kind, reference) = if source["configMapRef"].is_object() {
                ("ConfigMap", &source["configMapRef"])
            } else {
                ("Secret", &source["secretRef"])
            };
            let with = match show(&source["prefix"]) {
                prefix if prefix.is_empty() => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            out.line(3, format!("{}\t{kind}{with}\t{}", show(&reference["name"]), optional(reference)));
        }
    }
    let none = if items(&container["env"]).is_empty() { "\t<none>" } else { "" };
    out.line(2, format!("Environment:{none}"));
    for variable in items(&container["env"]) {
        let name = show(&variable["name"]);
        let from = &variable["valueFrom"];
        if from["fieldRef"].is_object() {
            let reference = &from["fieldRef"];
            let value = pod.map(|pod| field_value(pod, &show(&reference["fieldPath"]))).unwrap_or_default();
            let version = if reference["apiVersion"].is_null() { "v1".into() } else { show(&reference["apiVersion"]) };
            out.field(3, &name, format!("{value} ({version}:{})", show(&reference["fieldPath"])));
        } else if from["resourceFieldRef"].is_object() {
            let resource = show(&from["resourceFieldRef"]["resource"]);
            out.field(3, &name, format!("{} ({resource})", resource_value(container, &resource)));
        } else if from["secretKeyRef"].is_object() {
            let reference = &from["secretKeyRef"];
            out.field(
                3,
                &name,
                format!(
                    "<set to the key '{}' in secret '{}'>\t{}",
                    show(&reference["key"]),
                    show(&reference["name"]),
                    optional(reference)
                ),
            );
        } else if from["configMapKeyRef"].is_object() {
            let reference = &from["configMapKeyRef"];
            out.field(
                3,
                &name,
                format!(
                    "<set to the key '{}' of config map '{}'>\t{}",
                    show(&reference["key"]),
                    show(&reference["name"]),
                    optional(reference)
                ),
            );
        } else {
            for (at, line) in show(&variable["value"]).split('\n').enumerate() {
                out.line(3, if at == 0 { format!("{name}:\t{line}") } else { format!("\t{line}") });
            }
        }
    }
}

/// What a field reference stands for, as far as the object says it.
fn field_value(pod: &Value, path: &str) -> String {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return machinery::meta::get_dotted(pod, map).and_then(|map| map.get(key)).map(show).unwrap_or_default();
    }
    machinery::meta::get_dotted(pod, path).map(show).unwrap_or_default()
}

fn resource_value(container: &Value, resource: &str) -> String {
    let value = resource.split_once('.').map(|(list, name)| show(&container["resources"][list][name])).unwrap_or_default();
    match value {
        value if value.is_empty() && (resource == "limits.cpu" || resource == "limits.memory") => "node allocatable".into(),
        value if value.is_empty() => "0".into(),
        value => value,
    }
}

fn mounts(out: &mut Writer, container: &Value) {
    let mut mounts: Vec<&Value> = items(&container["volumeMounts"]).iter().collect();
    mounts.sort_by_key(|mount| show(&mount["mountPath"]));
    out.line(2, format!("Mounts:{}", if mounts.is_empty() { "\t<none>" } else { "" }));
    for mount in mounts {
        let mut flags = if mount["readOnly"] == true { "ro".to_owned() } else { "rw".to_owned() };
        if let Some(path) = mount["subPath"].as_str().filter(|path| !path.is_empty()) {
            flags += &format!(",path={}", machinery::gotext::quote(path));
        }
        out.line(3, format!("{} from {} ({flags})", show(&mount["mountPath"]), show(&mount["name"])));
    }
}

fn volumes(out: &mut Writer, list: &Value, space: &str) {
    if items(list).is_empty() {
        out.line(0, format!("{space}Volumes:\t<none>"));
        return;
    }
    out.line(0, format!("{space}Volumes:"));
    let indent = if space.is_empty() { "" } else { " " };
    for volume in items(list) {
        out.line(1, format!("{indent}{}:", show(&volume["name"])));
        self::volume(out, volume);
    }
}

fn volume(out: &mut Writer, volume: &Value) {
    let source = volume.as_object().into_iter().flatten().find(|(name, value)| *name != "name" && !value.is_null());
    let Some((kind, source)) = source else { return out.line(1, "<unknown>") };
    let optional = truth(source["optional"] == true).to_lowercase();
    let mut show_fields = |kind: &str, fields: &[(&str, String)]| {
        out.field(2, "Type", kind);
        fields.iter().for_each(|(name, value)| out.field(2, name, value));
    };
    match kind.as_str() {
        "hostPath" => {
            show_fields(
                "HostPath (bare host directory volume)",
                &[("Path", show(&source["path"])), ("HostPathType", show(&source["type"]))],
            );
        }
        "emptyDir" => {
            let limit = if source["sizeLimit"].is_null() { "<unset>".into() } else { show(&source["sizeLimit"]) };
            show_fields(
                "EmptyDir (a temporary directory that shares a pod's lifetime)",
                &[("Medium", show(&source["medium"])), ("SizeLimit", limit)],
            );
        }
        "secret" => show_fields(
            "Secret (a volume populated by a Secret)",
            &[("SecretName", show(&source["secretName"])), ("Optional", optional)],
        ),
        "configMap" => show_fields(
            "ConfigMap (a volume populated by a ConfigMap)",
            &[("Name", show(&source["name"])), ("Optional", optional)],
        ),
        "persistentVolumeClaim" => show_fields(
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
            &[("ClaimName", show(&source["claimName"])), ("ReadOnly", (source["readOnly"] == true).to_string())],
        ),
        "downwardAPI" => {
            show_fields("DownwardAPI (a volume populated by information about the pod)", &[]);
            downward_items(out, source);
        }
        "projected" => {
            show_fields("Projected (a volume that contains injected data from multiple sources)", &[]);
            items(&source["sources"]).iter().for_each(|source| projection(out, source));
        }
        "image" => show_fields(
            "Image (a volume populated by an OCI object)",
            &[("Reference", show(&source["reference"])), ("PullPolicy", show(&source["pullPolicy"]))],
        ),
        "nfs" => show_fields(
            "NFS (an NFS mount that lasts the lifetime of a pod)",
            &[
                ("Server", show(&source["server"])),
                ("Path", show(&source["path"])),
                ("ReadOnly", (source["readOnly"] == true).to_string()),
            ],
        ),
        "csi" => show_fields(
            "CSI (a Container Storage Interface (CSI) volume source)",
            &[
                ("Driver", show(&source["driver"])),
                ("FSType", show(&source["fsType"])),
                ("ReadOnly", (source["readOnly"] == true).to_string()),
            ],
        ),
        other => {
            out.field(2, "Type", other);
            if let Some(map) = source.as_object() {
                super::writer::everything(out, 2, map, "", &[]);
            }
        }
    }
}

fn projection(out: &mut Writer, source: &Value) {
    if source["secret"].is_object() {
        out.field(2, "SecretName", show(&source["secret"]["name"]));
        out.field(2, "Optional", source["secret"]["optional"] == true);
    } else if source["configMap"].is_object() {
        out.field(2, "ConfigMapName", show(&source["configMap"]["name"]));
        out.field(2, "Optional", source["configMap"]["optional"] == true);
    } else if source["downwardAPI"].is_object() {
        out.field(2, "DownwardAPI", "true");
    } else if source["serviceAccountToken"].is_object() {
        out.field(2, "TokenExpirationSeconds", show(&source["serviceAccountToken"]["expirationSeconds"]));
    }
}

fn downward_items(out: &mut Writer, source: &Value) {
    out.line(2, "Items:");
    for item in items(&source["items"]) {
        let from = [&item["fieldRef"]["fieldPath"], &item["resourceFieldRef"]["resource"]]
            .into_iter()
            .map(show)
            .find(|text| !text.is_empty());
        out.line(3, format!("{} -> {}", from.unwrap_or_default(), show(&item["path"])));
    }
}

fn tolerations(out: &mut Writer, title: &str, list: &Value) {
    let mut list: Vec<&Value> = items(list).iter().collect();
    list.sort_by_key(|toleration| show(&toleration["key"]));
    let line = |toleration: &&Value| {
        let (key, value, effect) = (show(&toleration["key"]), show(&toleration["value"]), show(&toleration["effect"]));
        let mut text = key.clone();
        if !value.is_empty() {
            text += &format!("={value}");
        }
        if !effect.is_empty() {
            text += &format!(":{effect}");
        }
        if toleration["operator"] == "Exists" && value.is_empty() {
            text += if key.is_empty() && effect.is_empty() { "op=Exists" } else { " op=Exists" };
        }
        if toleration["tolerationSeconds"].is_number() {
            text += &format!(" for {}s", show(&toleration["tolerationSeconds"]));
        }
        text
    };
    out.list(title, list.iter().map(line).collect());
}

fn spread(out: &mut Writer, list: &Value, space: &str) {
    let mut list: Vec<&Value> = items(list).iter().collect();
    if list.is_empty() {
        return;
    }
    list.sort_by_key(|constraint| show(&constraint["topologyKey"]));
    let line = |constraint: &&Value| {
        let selector =
            machinery::selector::LabelSelector::from_label_selector(&constraint["labelSelector"]).map(|s| s.to_string());
        let selector =
            selector.ok().filter(|text| !text.is_empty()).map(|text| format!(" for selector {text}")).unwrap_or_default();
        format!(
            "{}:{} when max skew {} is exceeded{selector}",
            show(&constraint["topologyKey"]),
            show(&constraint["whenUnsatisfiable"]),
            show(&constraint["maxSkew"])
        )
    };
    out.list(&format!("{space}Topology Spread Constraints"), list.iter().map(line).collect());
}
