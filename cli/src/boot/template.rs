//! The readable templates of `units/` and `manifests/`: text with `{{NAME}}` where a value belongs.

use anyhow::{Result, bail};

/// Replaces every `{{NAME}}`. A name without a value is a mistake of ours, and an error.
pub(crate) fn render(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { bail!("a template has {{{{ without }}}}") };
        let Some((_, value)) = values.iter().find(|(n, _)| *n == name) else { bail!("a template wants {name:?}") };
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders() {
        assert_eq!(render("a {{X}} b {{X}}{{Y}}", &[("X", "1".into()), ("Y", "2".into())]).unwrap(), "a 1 b 12");
        assert!(render("{{X}}", &[]).is_err());
        assert!(render("{{X", &[]).is_err());
    }
}
