//! The FlowSchemas and PriorityLevelConfigurations that every cluster has. The mandatory ones are kept as they must be; the
//! others as long as nobody took them over (annotation `apf.kubernetes.io/autoupdate-spec`).

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use crate::filters::fairness::config::GROUP;
use crate::filters::fairness::defaults;
use crate::server::Server;

const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

pub(super) async fn reconcile(server: &Server) -> Result<(), Status> {
    let mandatory = defaults::mandatory().into_iter().map(|object| (object, true));
    let suggested = defaults::suggested().into_iter().map(|object| (object, false));
    let one = async |(object, mandatory): (Value, bool)| {
        let plural = if object["kind"] == "FlowSchema" { "flowschemas" } else { "prioritylevelconfigurations" };
        let change = |old: &Value| as_wanted(old, &object, mandatory);
        super::reconcile(server, GROUP, plural, &object, &change).await
    };
    super::together(mandatory.chain(suggested).map(one)).await
}

fn as_wanted(old: &Value, wanted: &Value, mandatory: bool) -> Value {
    let mut new = old.clone();
    if mandatory || meta::annotation(old, AUTOUPDATE) != Some("false") {
        new["spec"] = wanted["spec"].clone();
        meta::set_path(&mut new, &["metadata", "annotations", AUTOUPDATE], "true".into());
    }
    new
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_administrator_may_change() {
        let wanted = json!({"spec": {"a": 1}});
        let taken = json!({"metadata": {"annotations": {AUTOUPDATE: "false"}}, "spec": {"a": 2}});
        assert_eq!(as_wanted(&taken, &wanted, false)["spec"]["a"], 2);
        assert_eq!(as_wanted(&taken, &wanted, true)["spec"]["a"], 1);
        assert_eq!(as_wanted(&json!({"metadata": {}, "spec": {"a": 2}}), &wanted, false)["spec"]["a"], 1);
    }
}
