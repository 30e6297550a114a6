//! What the reader sees: one row per request, findings beneath, and a verdict. Knows nothing of what the rows mean.

use std::io::IsTerminal as _;

use crate::stack::Stack;

/// The table as it grows.
pub(crate) struct Page {
    coloured: bool,
    rows: u32,
    checks: u32,
    missed: Vec<String>,
    /// Requests that were sent again because the service had not answered Envoy in time.
    pub(crate) again: u32,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self { coloured: std::io::stdout().is_terminal(), rows: 0, checks: 0, missed: Vec::new(), again: 0 }
    }

    /// A title over the rows that follow.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n{}", self.painted("1", title));
        if self.rows == 0 {
            println!("{}", self.painted("2", &line(" ", "", "who", "what", "expected", "got")));
        }
    }

    /// A request.
    pub(crate) fn row(&mut self, who: &str, what: &str, expected: &str, got: &str) {
        self.rows += 1;
        let number = self.rows.to_string();
        self.check(&number, who, what, expected, got);
    }

    /// Something else that must be true of the request above.
    pub(crate) fn finding(&mut self, what: &str, expected: &str, got: &str) {
        self.check("", "", &format!("└ {what}"), expected, got);
    }

    fn check(&mut self, number: &str, who: &str, what: &str, expected: &str, got: &str) {
        let held = expected == got;
        self.checks += 1;
        let mark = if held { self.painted("32", "✓") } else { self.painted("1;31", "✗") };
        println!("{}", line(&mark, number, who, what, expected, got));
        if !held {
            let of = if number.is_empty() { self.rows.to_string() } else { number.into() };
            self.missed.push(format!("{of}: {what}: expected `{expected}`, got `{got}`"));
        }
    }

    /// The verdict, and where to look when it is bad. Whether everything held.
    pub(crate) fn close(&self, stack: &Stack) -> bool {
        if self.again > 0 {
            println!(
                "\n{} request(s) were sent again: this machine is busy, and Envoy gives the service 250 ms; a refusal then, \
                 never an opening.",
                self.again
            );
        }
        let (checks, rows) = (self.checks, self.rows);
        if self.missed.is_empty() {
            let verdict = format!("All {checks} expectations of {rows} rows held.");
            println!("\n{}", self.painted("1;32", &verdict));
            return true;
        }
        let verdict = format!("{} of {checks} expectations did not hold:", self.missed.len());
        println!("\n{}", self.painted("1;31", &verdict));
        self.missed.iter().for_each(|missed| println!("  {missed}"));
        println!("What the processes said: {}/*.log", stack.directory().display());
        false
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

fn line(mark: &str, number: &str, who: &str, what: &str, expected: &str, got: &str) -> String {
    format!("{number:>3} {mark} {who:<17} {what:<44} {expected:<28} {got}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let head = line(" ", "", "who", "what", "expected", "got");
        let row = line("✓", "12", "acme, API key", "└ chat", "403 tenant_conflict", "200");
        let place = |line: &str, text: &str| line.split(text).next().map(|before| before.chars().count());
        assert_eq!(place(&head, "expected"), place(&row, "403"));
        assert_eq!(place(&head, "got"), place(&row, "200"));
    }

    #[test]
    fn one_expectation_that_fails_is_kept_with_its_row() {
        let mut page = Page { coloured: false, rows: 0, checks: 0, missed: Vec::new(), again: 0 };
        page.row("acme", "chat", "200", "200");
        page.finding("tenant", "acme", "globex");
        assert_eq!(page.missed, ["1: └ tenant: expected `acme`, got `globex`"]);
    }
}
