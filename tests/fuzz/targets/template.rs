//! Two path templates and a path, a line each: what a template captures is all that the path says, and a path that two
//! match is an overlap of the two.
#![no_main]

use gateway_core::claims::PathTemplate;
use gateway_core::target::check_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (one, two) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let path = lines.next().unwrap_or("");
    let templates: Vec<PathTemplate> =
        [one, two].into_iter().filter_map(|text| PathTemplate::parse(text).ok()).collect();
    for template in &templates {
        assert!(template.overlaps(template));
        assert_eq!(PathTemplate::parse(template.as_str()).as_ref(), Ok(template));
        // A template leads somewhere: filled with names it is a path that it matches.
        let filled = template.as_str().replace("{tenant}", "acme").replace("{model}", "m");
        assert_eq!(check_path(&filled), Ok((filled.as_str(), None)));
        assert!(template.matches(&filled).is_some());
        // Any text may be matched; a canonical one is rendered again by what was captured.
        let claims = template.matches(path);
        if let (Some(claims), Ok((path, None))) = (claims, check_path(path)) {
            let rendered = template.as_str().split('/').map(|segment| match segment {
                "{tenant}" => claims.tenant.unwrap(),
                "{model}" => claims.model.unwrap(),
                literal => literal,
            });
            assert_eq!(rendered.collect::<Vec<_>>().join("/"), path);
        }
    }
    if let [one, two] = templates.as_slice() {
        assert_eq!(one.overlaps(two), two.overlaps(one));
        assert!(one.overlaps(two) || one.matches(path).is_none() || two.matches(path).is_none());
    }
});
