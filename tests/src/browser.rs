//! A browser as small as tests need it: keeps cookies, follows redirects, and submits each form as it stands. Every page is
//! on 127.0.0.1.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Full;

use crate::client;

/// Pages that one visit may lead through.
const MOST: usize = 20;

/// Opens a page and goes on until nothing leads further; the last page's text.
///
/// # Panics
/// It goes round in circles, or off this host.
pub async fn visit(page: &str) -> String {
    let mut cookies: BTreeMap<String, String> = BTreeMap::new();
    let (mut url, mut form) = (page.parse::<Uri>().expect("a URL"), None::<String>);
    for _ in 0..MOST {
        let port = url.port_u16().unwrap_or_else(|| panic!("{url} is on no port of this host"));
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let jar: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder().method(method).uri(url.path_and_query().expect("a path").as_str());
        request = request.header("host", url.authority().expect("a host").as_str()).header("cookie", jar.join("; "));
        if form.is_some() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::new(Bytes::from(form.take().unwrap_or_default()))).expect("a request");
        let answer = client::request(([127, 0, 0, 1], port).into(), request).await.expect("a page");
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let text = answer.text();
        let next = match answer.header("location") {
            Some(location) if answer.status / 100 == 3 => location.to_owned(),
            _ => match posted(&text) {
                Some((action, fields)) => {
                    form = Some(fields);
                    action
                }
                None => return text,
            },
        };
        url =
            if next.starts_with('/') { format!("http://127.0.0.1:{port}{next}") } else { next }.parse().expect("a URL");
    }
    panic!("{page} never ends");
}

/// Where the page's form goes, and what is hidden in it.
fn posted(page: &str) -> Option<(String, String)> {
    let form = page.split_once("<form").map(|(_, rest)| rest)?;
    let form = form.split_once("</form>").map_or(form, |(form, _)| form);
    let fields: Vec<String> = form
        .split("<input")
        .skip(1)
        .filter_map(|input| Some(format!("{}={}", attribute(input, "name")?, attribute(input, "value")?)))
        .collect();
    Some((attribute(form, "action")?, fields.join("&")))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next().unwrap_or_default();
    let rest = tag.split_once(&format!("{name}=\"")).map(|(_, rest)| rest)?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}
