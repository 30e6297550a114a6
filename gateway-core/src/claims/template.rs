//! Path templates: literal segments, at most one `{tenant}` and one `{model}`, each a whole segment.
//!
//! Matching is byte for byte on a canonical path and never decodes; what a capture means is the caller's to check.

use crate::target;

/// `/api/v1/tenants/{tenant}/models/{model}/predict` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Tenant,
    Model,
}

/// What a path says, as it stands in the path: no name is checked yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathClaims<'a> {
    /// The segment at `{tenant}`.
    pub tenant: Option<&'a str>,
    /// The segment at `{model}`.
    pub model: Option<&'a str>,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No request could have this path.
    #[error(
        "must be a canonical path: `/`, then segments of plain characters without `%`, `;`, `//`, `.` or `..`, and no query"
    )]
    NotCanonical,
    /// A brace that is not part of a whole-segment placeholder.
    #[error("unknown placeholder `{0}`: a whole segment may be `{{tenant}}` or `{{model}}`")]
    Placeholder(String),
    /// `{tenant}` or `{model}` twice.
    #[error("`{0}` stands twice")]
    Twice(String),
}

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let rest = text.strip_prefix('/').ok_or(TemplateError::NotCanonical)?;
        let segments = rest.split('/').map(Segment::parse).collect::<Result<Box<[_]>, _>>()?;
        for placeholder in [Segment::Tenant, Segment::Model] {
            if segments.iter().filter(|segment| **segment == placeholder).count() > 1 {
                return Err(TemplateError::Twice(placeholder.text().to_owned()));
            }
        }
        let filled: String = segments.iter().map(|segment| format!("/{}", segment.example())).collect();
        match target::check_path(&filled) {
            Ok((_, None)) if !rest.is_empty() && !rest.ends_with('/') => Ok(Self { text: text.into(), segments }),
            _ => Err(TemplateError::NotCanonical),
        }
    }

    /// The claims of a canonical path without its query, when the template matches all of it.
    #[must_use]
    pub fn matches<'a>(&self, path: &'a str) -> Option<PathClaims<'a>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut claims = PathClaims::default();
        for segment in &self.segments {
            let part = parts.next().filter(|part| !part.is_empty())?;
            match segment {
                Segment::Literal(literal) if **literal == *part => {}
                Segment::Literal(_) => return None,
                Segment::Tenant => claims.tenant = Some(part),
                Segment::Model => claims.model = Some(part),
            }
        }
        parts.next().is_none().then_some(claims)
    }

    /// Whether one path can match both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(one, two)| one.meets(two))
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        match text {
            "{tenant}" => Ok(Self::Tenant),
            "{model}" => Ok(Self::Model),
            _ if text.contains(['{', '}']) => Err(TemplateError::Placeholder(text.to_owned())),
            _ => Ok(Self::Literal(text.into())),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        !matches!((self, other), (Self::Literal(one), Self::Literal(two)) if one != two)
    }

    fn text(&self) -> &str {
        match self {
            Self::Literal(literal) => literal,
            Self::Tenant => "{tenant}",
            Self::Model => "{model}",
        }
    }

    /// A text that the segment matches.
    fn example(&self) -> &str {
        match self {
            Self::Literal(literal) => literal,
            Self::Tenant | Self::Model => "x",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREDICT: &str = "/api/v1/tenants/{tenant}/models/{model}/predict";

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).unwrap()
    }

    #[test]
    fn captures_whole_segments_and_nothing_else() {
        let predict = template(PREDICT);
        let claims = PathClaims { tenant: Some("acme"), model: Some("gpt-4o") };
        assert_eq!(predict.matches("/api/v1/tenants/acme/models/gpt-4o/predict"), Some(claims));
        assert_eq!(template("/v1/chat/completions").matches("/v1/chat/completions"), Some(PathClaims::default()));
        let others = [
            "/api/v1/tenants/acme/models/gpt-4o",
            "/api/v1/tenants/acme/models/gpt-4o/predict/",
            "/api/v1/tenants//models/m/predict",
            "/api/v1/tenants/acme/models/a/b/predict",
            "/API/v1/tenants/acme/models/m/predict",
            "api/v1/tenants/a/models/m/predict",
            "//api/v1/tenants/a/models/m/predict",
            "/",
            "",
        ];
        for path in others {
            assert_eq!(predict.matches(path), None, "{path}");
        }
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in ["", "v1", "/", "/a/", "/a//b", "/a/../b", "/a%20b", "/a?b", "/a;b", "//", "/a b"] {
            assert_eq!(PathTemplate::parse(text), Err(TemplateError::NotCanonical), "{text}");
        }
        for text in ["/{user}", "/x{tenant}", "/{tenant}x", "/{Tenant}", "/{", "/{tenant}{model}"] {
            assert!(matches!(PathTemplate::parse(text), Err(TemplateError::Placeholder(_))), "{text}");
        }
        assert_eq!(PathTemplate::parse("/{tenant}/{tenant}"), Err(TemplateError::Twice("{tenant}".into())));
        assert_eq!(
            PathTemplate::parse("/{user}").unwrap_err().to_string(),
            "unknown placeholder `{user}`: a whole segment may be `{tenant}` or `{model}`"
        );
    }

    #[test]
    fn overlap_is_one_path_for_two_templates() {
        let cases = [
            ("/v1/a", "/v1/a", true),
            ("/v1/a", "/v1/b", false),
            ("/v1/{model}", "/v1/a", true),
            ("/v1/{model}", "/v1/a/b", false),
            ("/{tenant}/a", "/b/{model}", true),
            ("/{tenant}/a", "/b/{model}/c", false),
            ("/{tenant}/a", "/{model}/b", false),
        ];
        for (one, two, overlaps) in cases {
            assert_eq!(template(one).overlaps(&template(two)), overlaps, "{one} {two}");
            assert_eq!(template(two).overlaps(&template(one)), overlaps, "{two} {one}");
        }
    }

    fn any_template() -> impl Strategy<Value = PathTemplate> {
        let segment = prop_oneof![Just("{tenant}"), Just("{model}"), Just("a"), Just("b"), Just("v1.x")];
        proptest::collection::vec(segment, 1..5)
            .prop_filter_map("placeholder twice", |parts| PathTemplate::parse(&format!("/{}", parts.join("/"))).ok())
    }

    proptest! {
        /// What is captured is all that the path says: put back into the template it is the path.
        #[test]
        fn captures_render_the_path_again(template in any_template(), path in "(/(a|b|v1[.]x|[a-z~:.-]{1,6})){1,4}") {
            if let (Ok((path, None)), Some(claims)) = (target::check_path(&path), template.matches(&path)) {
                let rendered = template.as_str()
                    .replace("{tenant}", claims.tenant.unwrap_or("?"))
                    .replace("{model}", claims.model.unwrap_or("?"));
                prop_assert_eq!(rendered, path);
            }
        }

        #[test]
        fn a_path_that_matches_two_is_an_overlap(one in any_template(), two in any_template(), path in "(/(a|b|v1[.]x)){1,4}") {
            if one.matches(&path).is_some() && two.matches(&path).is_some() {
                prop_assert!(one.overlaps(&two));
            }
        }
    }
}
