//! How the model is told to answer: words in square brackets within the last user message.

use std::time::Duration;

/// One answer's behaviour. Words that are not known are ignored: they are part of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `[tokens=N]`: output tokens of each choice, one chunk and four letters each; the request's own maximum cuts them.
    pub tokens: u64,
    /// `[prompt=N]`: prompt tokens of the usage, instead of a quarter of the bytes.
    pub prompt: Option<u64>,
    /// `[cached=N]`: how many of the prompt tokens came from a cache.
    pub cached: u64,
    /// `[reasoning=N]`: reasoning tokens, counted within the output and never shown.
    pub reasoning: u64,
    /// `[drip=20ms]`: pause before each chunk, or before the JSON answer.
    pub drip: Duration,
    /// `[status=429]`: an error in OpenAI's shape.
    pub status: Option<u16>,
    /// `[cut=10]`: the connection breaks after so many chunks; `[stall=10]`: nothing more comes after them.
    pub cut: Option<Cut>,
    /// `[hang]`, `[hold]`, `[hold=2s]`: before the answer's head.
    pub hold: Option<Hold>,
    /// `[no-usage]`: the answer never says.
    pub no_usage: bool,
    /// `[usage-last]`: usage on the last content chunk, asked for or not, as some compatible servers do.
    pub usage_last: bool,
    /// `[tag=globex]`: an `x-bulkhead-tenant` of its own on the answer.
    pub tag: Option<String>,
    /// `[gzip]`: a compressed answer, though nobody asked.
    pub gzip: bool,
    /// `[close]`: `connection: close` after the answer.
    pub close: bool,
    /// `[echo-json-extra]`: fields that OpenAI does not have, and a decoy usage within the text.
    pub extra: bool,
    /// `[split=N]`: the body's bytes come in pieces of N.
    pub split: Option<usize>,
    /// `[crlf]`: lines of a stream end in CR LF.
    pub crlf: bool,
    /// `[counted]`: a stream with a `content-length`, as proxies that buffer send it.
    pub counted: bool,
    /// `[empty]`: the head and no body; with a drip, the frame that ends it comes so much later.
    pub empty: bool,
    /// `[trailers]`: trailers after the body, reserved names among them (HTTP/1.1: where the request says `te: trailers`).
    pub trailers: bool,
    /// `[answer=NAME]`: the bytes of that name, as [`super::Upstream::keep_answer`] was told them.
    pub answer: Option<String>,
    /// `[drop]`: the connection (HTTP/2: the stream) breaks in place of an answer's head.
    pub drop: bool,
}

/// What happens in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection (HTTP/2: the stream) is reset after this many chunks.
    Break(usize),
    /// Nothing more is sent after this many chunks, and nothing ends.
    Stall(usize),
}

/// What happens before the answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Until the next release.
    Released,
    /// For this long.
    For(Duration),
    /// For ever.
    Hang,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            tokens: 16,
            prompt: None,
            cached: 0,
            reasoning: 0,
            drip: Duration::ZERO,
            status: None,
            cut: None,
            hold: None,
            no_usage: false,
            usage_last: false,
            tag: None,
            gzip: false,
            close: false,
            extra: false,
            split: None,
            crlf: false,
            counted: false,
            empty: false,
            trailers: false,
            answer: None,
            drop: false,
        }
    }
}

impl Directives {
    /// Reads every `[word]` and `[word=value]` of a text; later ones win.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut directives = Self::default();
        for piece in text.split('[').skip(1) {
            let Some((word, _)) = piece.split_once(']') else { continue };
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            directives.read(name, value);
        }
        directives
    }

    fn read(&mut self, name: &str, value: Option<&str>) {
        let number = || value.and_then(|value| value.parse::<u64>().ok());
        let count = || value.and_then(|value| value.parse::<usize>().ok());
        match name {
            "tokens" => self.tokens = number().unwrap_or(self.tokens),
            "prompt" => self.prompt = number(),
            "cached" => self.cached = number().unwrap_or_default(),
            "reasoning" => self.reasoning = number().unwrap_or_default(),
            "drip" => self.drip = value.and_then(duration).unwrap_or_default(),
            "status" => self.status = value.and_then(|value| value.parse().ok()),
            "cut" => self.cut = count().map(Cut::Break),
            "stall" => self.cut = count().map(Cut::Stall),
            "hang" => self.hold = Some(Hold::Hang),
            "hold" => self.hold = Some(value.and_then(duration).map_or(Hold::Released, Hold::For)),
            "no-usage" => self.no_usage = true,
            "usage-last" => self.usage_last = true,
            "tag" => self.tag = value.map(String::from),
            "gzip" => self.gzip = true,
            "close" => self.close = true,
            "echo-json-extra" => self.extra = true,
            "split" => self.split = count().filter(|count| *count > 0),
            "crlf" => self.crlf = true,
            "counted" => self.counted = true,
            "empty" => self.empty = true,
            "trailers" => self.trailers = true,
            "answer" => self.answer = value.map(String::from),
            "drop" => self.drop = true,
            _ => {}
        }
    }
}

/// `20ms` or `2s`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_brackets_are_read_and_prose_is_not() {
        let read = Directives::parse("Hi [there] [tokens=50][drip=20ms] x[0] [hold=2s] [stall=3] [tag=globex] [open");
        assert_eq!(read.tokens, 50);
        assert_eq!(read.drip, Duration::from_millis(20));
        assert_eq!(read.hold, Some(Hold::For(Duration::from_secs(2))));
        assert_eq!(read.cut, Some(Cut::Stall(3)));
        assert_eq!(read.tag.as_deref(), Some("globex"));
        assert_eq!(Directives::parse("no words [at all] here]"), Directives::default());
    }

    #[test]
    fn the_later_word_wins() {
        assert_eq!(Directives::parse("[status=503] [status=429]").status, Some(429));
        assert_eq!(Directives::parse("[hold=2s] [hold]").hold, Some(Hold::Released));
    }
}
