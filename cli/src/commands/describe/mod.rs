use serde_json::Value;
#[derive(clap::Args, Clone, Debug)]
pub struct DescribeArgs {}
pub async fn run(_: DescribeArgs, _: &crate::kube::Session) -> crate::kube::Result<()> {
    Ok(())
}
pub fn pod_template(_: &Value) -> String {
    String::new()
}
