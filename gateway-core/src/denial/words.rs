//! A tenant's own words for refusals of its callers. Where it has none, the table's.

use std::collections::HashMap;

use super::{Code, Denial};
use crate::gate;

/// What the authenticated callers of one tenant read. By default the table's words, with the details.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// By code: the message, and a contact that goes behind it; empty without one.
    pub by_code: HashMap<Code, (String, String)>,
    /// Only codes and messages: no limit's name, no rule's, no number.
    pub hides_details: bool,
}

impl Words {
    /// The answer's body for an authenticated caller: the tenant's message for the table's, its contact behind it, and the
    /// detail between them if it is shown. Nothing else of the answer changes.
    #[must_use]
    pub fn body(&self, denial: &Denial, request_id: &str) -> Vec<u8> {
        let own = self.by_code.get(&denial.code);
        let (message, contact) = own.map_or((denial.code.row().message, ""), |(message, contact)| (message, contact));
        let detail = denial.detail.as_deref().filter(|_| !self.hides_details);
        let contact = Some(contact).filter(|contact| !contact.is_empty());
        denial.saying(&[Some(message), detail, contact], denial.param.as_deref(), request_id)
    }

    /// What a grant says of them: for these codes, or for all; nothing where they say no more than the table.
    #[must_use]
    pub fn of(&self, codes: Option<&[Code]>) -> Option<gate::Words> {
        let told = self.by_code.iter().filter(|(code, _)| codes.is_none_or(|codes| codes.contains(code)));
        let said = told.map(|(code, (message, contact))| gate::Said {
            code: code.row().code.to_owned(),
            message: message.clone(),
            contact: contact.clone(),
        });
        let words = gate::Words { hides_details: self.hides_details, said: said.collect() };
        (words != gate::Words::default()).then_some(words)
    }
}

/// Words for codes that this side does not know are nobody's.
impl From<Option<&gate::Words>> for Words {
    fn from(raw: Option<&gate::Words>) -> Self {
        let Some(raw) = raw else { return Self::default() };
        let own = |said: &gate::Said| Some((Code::named(&said.code)?, (said.message.clone(), said.contact.clone())));
        Self { by_code: raw.said.iter().filter_map(own).collect(), hides_details: raw.hides_details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_words_stand_for_the_tables_and_change_nothing_else() {
        let denial = Denial::new(Code::ModelNotAllowed).param("model").detail("Key k1 lists llama.");
        let text = |words: &Words| String::from_utf8(words.body(&denial, "r-1")).unwrap();
        let plain = text(&Words::default());
        assert!(plain.contains("Key k1 lists llama.") && plain.contains(r#""param":"model""#));
        let own = |contact: &str, hides_details| {
            let said = ("Not here.".to_owned(), contact.to_owned());
            Words { by_code: HashMap::from([(Code::ModelNotAllowed, said)]), hides_details }
        };
        let shown = own("Contact: https://help.example", false);
        assert_eq!(
            text(&shown),
            plain
                .replace("This credential may not use this model.", "Not here.")
                .replace("Key k1 lists llama.", "Key k1 lists llama. Contact: https://help.example")
        );
        let both = "This credential may not use this model. Key k1 lists llama.";
        assert_eq!(text(&own("", true)), plain.replace(both, "Not here."));
        for words in [shown, own("", true), Words { hides_details: true, ..Words::default() }] {
            assert_eq!(Words::from(words.of(None).as_ref()), words);
        }
        assert_eq!(own("", false).of(Some(&[Code::Internal])), None);
        assert_eq!(Words::from(None), Words::default());
    }
}
