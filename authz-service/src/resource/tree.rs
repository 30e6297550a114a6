//! YAML text → trees whose every key and value knows its line and column. Knows nothing of kinds; refuses anchors, merge
//! keys and duplicate keys: what is written is what holds.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DefaultMessageFormatter, Location, MergeKeyPolicy, MessageFormatter, Spanned};

use super::problem::{Place, Problems};

/// A value and where it stands.
pub(super) type Node = Spanned<Value>;

/// A value of YAML 1.2's core schema.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of 0 or more.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// No field takes one; kept for the message.
    Float(f64),
    /// Text, quoted or plain.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file; its keys differ.
    Map(Vec<Entry>),
}

/// A field of a mapping.
pub(super) type Entry = (Spanned<String>, Node);

/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 32;

/// The documents of a file; empty ones are skipped. What is no YAML is noted as a problem, and the documents that can
/// still be told apart are read on.
pub(super) fn documents(file: u32, text: &str, problems: &Problems) -> Vec<Node> {
    let mut reader = text.as_bytes();
    let mut nodes = Vec::new();
    for document in serde_saphyr::read_with_options::<_, Node>(&mut reader, options()) {
        match document {
            Ok(node) => nodes.push(node),
            Err(error) => problems.add(
                error.location().map_or(Place { file, line: 1, column: 1 }, |location| place(file, location)),
                message(&error),
            ),
        }
    }
    nodes
}

/// Where a node stands.
pub(super) fn place(file: u32, location: Location) -> Place {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { file, line: number(location.line()), column: number(location.column()) }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_depth: MAX_DEPTH },
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn message(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => format!("field `{key}` is written twice"),
        serde_saphyr::Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            "anchors and aliases are not accepted: what is written is what holds".to_owned()
        }
        serde_saphyr::Error::MergeKeyNotAllowed { .. } => "merge keys (`<<`) are not accepted".to_owned(),
        serde_saphyr::Error::NonFiniteFloat { value, .. } => {
            format!("`{value}` reads as a number that is no integer: put it in quotes if it is a text")
        }
        other => format!("not valid YAML: {}", DefaultMessageFormatter.format_message(other)),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = sequence.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Node>, Vec<String>) {
        let mut problems = Problems::default();
        let file = problems.file("f.yaml");
        let nodes = documents(file, text, &problems);
        (nodes, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_and_values_know_their_place_in_every_document() {
        let (nodes, problems) = read("# head\n---\na: 1\n---\n---\nb:\n  - x: [no, 'y']\n");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(nodes.len(), 2);
        let Value::Map(entries) = &nodes[1].value else { panic!("{nodes:?}") };
        let (key, list) = &entries[0];
        assert_eq!((key.value.as_str(), key.referenced.line(), key.referenced.column()), ("b", 6, 1));
        let Value::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!((items[0].referenced.line(), items[0].referenced.column()), (7, 5));
        let Value::Map(inner) = &items[0].value else { panic!("{items:?}") };
        assert!(
            matches!(&inner[0].1.value, Value::List(words) if matches!(&words[0].value, Value::Text(no) if no == "no"))
        );
    }

    #[test]
    fn what_is_no_plain_yaml_is_refused_and_the_rest_is_read() {
        for (text, want) in [
            ("a: 1\nb: 2\na: 3\n---\nc: 1\n", "f.yaml:3:1: field `a` is written twice"),
            ("a: &x 1\nb: *x\n", "f.yaml:1:7: anchors and aliases are not accepted"),
            ("a: 1\n<<: {b: 2}\n", "f.yaml:2:1: merge keys (`<<`) are not accepted"),
            ("a: [1\nb: 2\n", "f.yaml:2:2: not valid YAML: "),
            ("a:\n\t- 1\n", "f.yaml:2:2: not valid YAML: tabs"),
            ("id: 1234567e1234\n", "f.yaml:1:5: `1234567e1234` reads as a number that is no integer: put it in quotes"),
            (&format!("a: {}{}\n", "[".repeat(40), "]".repeat(40)), "f.yaml:1:"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.len() == 1 && problems[0].starts_with(want), "{text:?}: {problems:?}");
        }
        assert_eq!(read("a: 1\na: 2\n---\nb: 1\n").0.len(), 1);
    }
}
