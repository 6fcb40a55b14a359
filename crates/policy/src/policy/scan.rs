//! A look at a policy's text before Cedar reads it: how deep it goes, since what goes too deep would end the process, and what stands
//! where that Cedar's own errors have no place for.

use super::fault::Fault;

/// Longest text of a policy, in bytes.
pub const POLICY_LEN_MAX: usize = 32 * 1024;
/// Deepest nesting of brackets and of `if`. Cedar's parser calls itself about ten times for each bracket: where nothing is optimised,
/// 120 fit into a stack of 2 MiB and 200 don't.
pub const NESTING_MAX: usize = 20;
/// Deepest nesting of `if`: Cedar's validator takes twice as long for each, seconds for 20.
pub const IF_NESTING_MAX: usize = 4;
/// Most operators in a row, as in `a || b || c`: each is one deeper for whoever walks over it.
pub const CHAIN_MAX: usize = 256;

/// What was seen.
#[derive(Default)]
pub(super) struct Seen<'t> {
    /// The annotations, by name and where they stand.
    pub annotations: Vec<(&'t str, usize)>,
    /// Where words and signs stand, outside of texts in quotes.
    tokens: Vec<(&'t str, usize)>,
}

impl Seen<'_> {
    /// Where that word or sign stands first.
    pub(super) fn place_of(&self, token: &str) -> usize {
        self.tokens.iter().find(|(seen, _)| *seen == token).map_or(0, |(_, at)| *at)
    }
}

/// One pair of brackets, or what is outside of all.
#[derive(Default)]
struct Level {
    /// Operators between two values.
    between: usize,
    /// Those that hang on one value, since the last one between two; and the most so far.
    on_one: usize,
    on_one_max: usize,
    ifs: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.between + self.on_one_max
    }
}

/// Looks at the text.
pub(super) fn scan(text: &str) -> Result<Seen<'_>, Fault> {
    if text.len() > POLICY_LEN_MAX {
        let why = format!("it has {} bytes, at most {POLICY_LEN_MAX} are taken", text.len());
        return Err(Fault::at(text, POLICY_LEN_MAX, "the policy is too long", why, "split it into several"));
    }
    let mut seen = Seen::default();
    let mut levels = vec![Level::default()];
    let mut is_over = false;
    for (token, at) in Tokens::of(text) {
        if is_over {
            let todo = "put each into a text of its own";
            return Err(Fault::at(text, at, "this is more than one policy", "a text holds one", todo));
        }
        match token {
            "(" | "[" | "{" => levels.push(Level::default()),
            ")" | "]" | "}" if levels.len() > 1 => {
                levels.pop();
            }
            ";" => is_over = true,
            "," => *innermost(&mut levels) = Level::default(),
            "if" => innermost(&mut levels).ifs += 1,
            "&&" | "||" | "+" | "-" | "*" => {
                let level = innermost(&mut levels);
                (level.between, level.on_one) = (level.between + 1, 0);
            }
            "!" | "." | "::" => {
                let level = innermost(&mut levels);
                level.on_one += 1;
                level.on_one_max = level.on_one_max.max(level.on_one);
            }
            _ => {}
        }
        if levels.iter().map(|level| level.ifs).sum::<usize>() > IF_NESTING_MAX {
            let why = format!("`if` may be {IF_NESTING_MAX} deep");
            return Err(Fault::at(text, at, "the policy is nested too deeply", why, "write it with && and ||"));
        }
        if levels.iter().map(|level| level.ifs + 1).sum::<usize>() > NESTING_MAX + 1 {
            let why = format!("brackets and `if` may be {NESTING_MAX} deep");
            return Err(Fault::at(text, at, "the policy is nested too deeply", why, "split it into several policies"));
        }
        if levels.iter().map(Level::depth).sum::<usize>() > CHAIN_MAX {
            let why = format!("there may be {CHAIN_MAX} operators in one expression");
            let todo = "write a set, as in `[\"a\", \"b\"].contains(x)`, or several policies";
            return Err(Fault::at(text, at, "the expression is too long", why, todo));
        }
        if let Some((before, at)) = seen.tokens.last().copied()
            && before == "@"
        {
            seen.annotations.push((token, at));
        }
        seen.tokens.push((token, at));
    }
    Ok(seen)
}

/// There is always one: what closes the last is not taken off.
fn innermost(levels: &mut [Level]) -> &mut Level {
    let last = levels.len() - 1;
    &mut levels[last]
}

/// Words, signs and texts in quotes; what is none of them is Cedar's to refuse.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    const fn of(text: &'t str) -> Self {
        Self { text, at: 0 }
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = (&'t str, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            let len = if first.is_whitespace() {
                self.at += first.len_utf8();
                continue;
            } else if rest.starts_with("//") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            } else if first == '"' {
                quoted(rest)
            } else if first.is_ascii_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if ["&&", "||", "::", "==", "!=", "<=", ">="].iter().any(|sign| rest.starts_with(sign)) {
                2
            } else {
                first.len_utf8()
            };
            let at = self.at;
            self.at += len;
            return Some((&rest[..len], at));
        }
    }
}

/// Length of a text in quotes, which may end with the policy.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<&str> {
        Tokens::of(text).map(|(token, _)| token).collect()
    }

    #[test]
    fn words_signs_and_texts_are_told_apart() {
        let text = "@id(\"a\\\"(\") // ((( \"\nprincipal==Q::Group::\"(\" && !x.y";
        let expected = [
            "@",
            "id",
            "(",
            "\"a\\\"(\"",
            ")",
            "principal",
            "==",
            "Q",
            "::",
            "Group",
            "::",
            "\"(\"",
            "&&",
            "!",
            "x",
            ".",
            "y",
        ];
        assert_eq!(tokens(text), expected);
        assert_eq!(tokens("\"never ends \\"), ["\"never ends \\"]);
        assert_eq!(tokens("ä é"), ["ä", "é"]);
    }

    #[test]
    fn depth_is_bounded_however_it_is_made() {
        let deep =
            |n: usize| format!("permit(principal,action,resource) when {{ {}1==1{} }};", "(".repeat(n), ")".repeat(n));
        assert!(scan(&deep(NESTING_MAX - 1)).is_ok() && scan(&deep(NESTING_MAX)).is_err());
        for (part, most) in
            [("if true then ", IF_NESTING_MAX), ("!", CHAIN_MAX), ("x.", CHAIN_MAX), ("true || ", CHAIN_MAX)]
        {
            let text = format!("permit(principal,action,resource) when {{ {}true }};", part.repeat(most + 1));
            assert!(scan(&text).is_err(), "{part}");
        }
        // One beside the other is not one in the other.
        let wide = format!("permit(principal,action,resource) when {{ [{}1].contains(1) }};", "(1),".repeat(2000));
        assert!(scan(&wide).is_ok());
        assert!(scan(&"x".repeat(POLICY_LEN_MAX + 1)).is_err());
        assert!(scan(")))]]}}").is_ok());
    }
}
