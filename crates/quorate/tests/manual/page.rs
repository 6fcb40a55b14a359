//! What a page of the manual has people type.

/// A fenced block of shell: at which machines it is typed, and what.
pub struct Block<'a> {
    /// As the page names them; none is typed nowhere.
    pub machines: Vec<&'a str>,
    /// Its lines.
    pub text: String,
}

/// The blocks of a page, in their order. `nodes` stands for each of them.
pub fn blocks<'a>(page: &'a str, nodes: &[&'a str]) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match (open, line.strip_prefix("```sh")) {
            (false, Some(machines)) => {
                let of = |name| if name == "nodes" { nodes.to_vec() } else { vec![name] };
                let machines = machines.split_whitespace().flat_map(of).collect();
                blocks.push(Block { machines, text: String::new() });
                open = true;
            }
            (true, _) if line == "```" => open = false,
            (true, _) => blocks.last_mut().expect("one is open").text += &format!("{line}\n"),
            (false, None) => {}
        }
    }
    blocks
}

/// Replaces each of the first by the second, in one pass, so that nothing that was put in is looked at again.
pub fn substitute(text: &str, table: &[(String, String)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        match table.iter().find(|(from, _)| rest.starts_with(from.as_str())) {
            Some((from, to)) => {
                out += to;
                rest = &rest[from.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}
