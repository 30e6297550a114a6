//! JSON objects as issuers and their key sets must write them: no member twice at any depth (an escape is no disguise),
//! bounded depth, bounded number of members, nothing after the end.
//!
//! Parsers disagree about duplicates (RFC 8259 §4), so a token with one could mean two things; here it means nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Objects and arrays within one another, the root counted.
const MAX_DEPTH: usize = 8;
/// Members of one object.
const MAX_MEMBERS: usize = 128;

/// Reads one object.
///
/// # Errors
/// Not UTF-8, not JSON, not an object, a member twice, too deep, too many members, or something behind it. The message
/// quotes the text: show it to whoever wrote the text, not to others.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| serde_json::Error::custom("not UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: MAX_DEPTH }.deserialize(&mut json)?;
    json.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("not an object")),
    }
}

/// Reads a value with at most `depth` levels.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member `{}` stands twice", name.escape_debug())));
            }
            if map.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            let value = members.next_value_seed(inner)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_object_as_serde_json_does() {
        let text = r#"{"a":[1,-2,0.5,null,true,"x\u00e9"],"b":{"c":{}},"":""}"#;
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(600), "}".repeat(600));
        let nine = format!("{}1{}", r#"{"a":"#.repeat(9), "}".repeat(9));
        let many = format!("{{{}}}", (0..129).map(|n| format!(r#""m{n}":0"#)).collect::<Vec<_>>().join(","));
        let bad: Vec<&[u8]> = vec![
            br#"{"a":1,"a":1}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"{"o":{"a":1,"a":2}}"#,
            br#"{"o":[{"a":1,"a":2}]}"#,
            b"[]",
            b"null",
            b"\"x\"",
            b"1",
            b"",
            b" ",
            b"{} {}",
            b"{}x",
            b"{}\0",
            b"{} // c",
            b"{/**/}",
            b"{'a':1}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            br#"{"a":"\ud800"}"#,
            b"{\"a\":\"\n\"}",
            br#"{"a":NaN}"#,
            br#"{"a":1e400}"#,
            br#"{"a":01}"#,
            br#"{"a":+1}"#,
            deep.as_bytes(),
            nine.as_bytes(),
            many.as_bytes(),
        ];
        for text in bad {
            assert!(object(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn stops_only_past_its_bounds() {
        let eight = format!("{}1{}", r#"{"a":"#.repeat(8), "}".repeat(8));
        let most = format!("{{{}}}", (0..128).map(|n| format!(r#""m{n}":0"#)).collect::<Vec<_>>().join(","));
        assert!(object(eight.as_bytes()).is_ok() && object(most.as_bytes()).is_ok());
    }
}
