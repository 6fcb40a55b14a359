//! What a policy's conditions look at, and what could fail when they are judged: read from the policy's JSON form.

use std::collections::BTreeSet;

use serde_json::Value;

/// Which attributes of the context are looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reads(BTreeSet<String>);

impl Reads {
    /// Whether none is: the verdict is the same in every context.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether that one is.
    pub fn has(&self, attribute: &str) -> bool {
        self.0.contains(attribute)
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
    /// Every one that there is.
    pub fn all() -> Self {
        Self(crate::schema::CONTEXT.map(str::to_owned).into())
    }
    /// Adds those of another policy.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Those of a policy.
    pub(super) fn of(policy: &Value) -> Self {
        let mut reads = Self::default();
        reads.visit(&policy["conditions"]);
        reads
    }

    fn visit(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    // `has` may name a whole path.
                    match (key.as_str(), inner["attr"].as_str().or_else(|| inner["attr"][0].as_str())) {
                        ("Value", _) => {}
                        ("." | "has", Some(attribute)) if is_context(&inner["left"]) => {
                            self.0.insert(attribute.to_owned());
                        }
                        ("Var", _) if inner == "context" => self.add(&Self::all()),
                        _ => self.visit(inner),
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|inner| self.visit(inner)),
            _ => {}
        }
    }
}

fn is_context(value: &Value) -> bool {
    value["Var"] == "context"
}

/// What a policy does that may fail although its types are right, by the word or sign that stands there.
///
/// Sums overflow, and so do moments that are moved far. What is left can't: attributes and tags are looked for first, nothing but
/// principal, resource and context is looked into, and nesting is bounded.
pub(super) fn may_fail(policy: &Value) -> Option<&'static str> {
    fn visit(value: &Value) -> Option<&'static str> {
        match value {
            Value::Object(map) => map.iter().find_map(|(key, inner)| match key.as_str() {
                "Value" => None,
                "neg" if inner["arg"]["Value"].is_number() => None,
                "neg" => Some("-"),
                "offset" if inner[1]["duration"][0]["Value"].as_str().is_some_and(is_short) => visit(&inner[0]),
                _ => ["+", "-", "*", "offset", "durationSince"]
                    .into_iter()
                    .find(|known| *known == key)
                    .or_else(|| visit(inner)),
            }),
            Value::Array(all) => all.iter().find_map(visit),
            _ => None,
        }
    }
    visit(&policy["conditions"])
}

/// Whether no number of a duration has more than six digits: with what a policy may hold of them, no moment leaves its range.
fn is_short(duration: &str) -> bool {
    duration.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 6)
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    fn json(condition: &str) -> Value {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Policy::parse(None, text).unwrap().to_json().unwrap()
    }

    #[test]
    fn what_is_looked_at_is_found_wherever_it_stands() {
        for (condition, expected) in [
            ("principal.name == \"context\"", &[][..]),
            ("principal.name == context.door", &["door"]),
            ("context has ip && context.ip.isLoopback()", &["ip"]),
            ("if context has aad then context.aad.hasTag(\"ip\") else true", &["aad"]),
            ("context has grant.grantee", &["grant"]),
            ("context has grant && context.grant.operations.contains(\"x\")", &["grant"]),
            ("[context.door, \"x\"].contains(principal.name)", &["door"]),
            ("{ a: context.days }.a == 1", &["days"]),
            ("resource.kind == \"x\" || !(context has tags)", &["tags"]),
        ] {
            assert_eq!(Reads::of(&json(condition)).iter().collect::<Vec<_>>(), expected, "{condition}");
        }
        let whole = Reads::of(&json("context == {door: \"native\"}"));
        assert_eq!(whole.iter().count(), crate::schema::CONTEXT.len());
    }

    #[test]
    fn what_may_fail_is_found() {
        for (condition, expected) in [
            ("context.days + 1 > 2", Some("+")),
            ("context.days - 1 > 2", Some("-")),
            ("context.days * 2 > 2", Some("*")),
            ("-context.days > 2", Some("-")),
            ("context.days > -2", None),
            ("context.days > 2 && \"a+b\" like \"*\"", None),
            ("context.now.offset(duration(\"1h30m\")).toTime() > duration(\"8h\")", None),
            ("context.now.offset(duration(\"1000000d\")) > datetime(\"2024-01-01\")", Some("offset")),
            ("context.now.durationSince(datetime(\"2024-01-01\")) > duration(\"8h\")", Some("durationSince")),
        ] {
            assert_eq!(may_fail(&json(condition)), expected, "{condition}");
        }
    }
}
