//! Calendar windows: where the one that holds an instant starts and ends, in a time zone, across its clock changes.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, Timestamp, ToSpan as _, Unit, Zoned, ZonedRound};

use super::Now;
use crate::registry::Window;

/// From `start_ms` (in it) to `end_ms` (not in it), milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
}

/// An instant that no calendar can hold lies in one window without end: the strictest reading.
const ENDLESS: Span = Span { start_ms: 0, end_ms: u64::MAX };

/// The window that holds `now`.
pub(super) fn span(window: Window, now: Now, zone: &TimeZone) -> Span {
    try_span(window, now, zone).unwrap_or(ENDLESS)
}

fn try_span(window: Window, now: Now, zone: &TimeZone) -> Option<Span> {
    let instant = Timestamp::from_millisecond(i64::try_from(now.unix_ms).ok()?).ok()?.to_zoned(zone.clone());
    let (start, end) = match window {
        Window::Minute => within_day(&instant, Unit::Minute, SignedDuration::from_mins(1))?,
        Window::Hour => within_day(&instant, Unit::Hour, SignedDuration::from_hours(1))?,
        Window::Day => dates(instant.date(), instant.date().tomorrow().ok()?, zone)?,
        Window::Month => {
            let first = instant.date().first_of_month();
            dates(first, first.checked_add(1.month()).ok()?, zone)?
        }
    };
    let millis = |at: &Zoned| u64::try_from(at.timestamp().as_millisecond()).ok();
    Some(Span { start_ms: millis(&start)?, end_ms: millis(&end)? })
}

/// A minute or an hour of the local clock. An hour that the clock repeats is two windows; where the clock moves by
/// half an hour, one window is longer.
fn within_day(instant: &Zoned, unit: Unit, length: SignedDuration) -> Option<(Zoned, Zoned)> {
    let start_of = |at: &Zoned| at.round(ZonedRound::new().smallest(unit).mode(RoundMode::Trunc)).ok();
    let start = start_of(instant)?;
    let mut end = start.checked_add(length).ok()?;
    if start_of(&end)? == start {
        end = end.checked_add(length).ok()?;
    }
    end = start_of(&end)?;
    Some((start, end))
}

fn dates(first: Date, next: Date, zone: &TimeZone) -> Option<(Zoned, Zoned)> {
    Some((first.to_zoned(zone.clone()).ok()?, next.to_zoned(zone.clone()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn at(text: &str) -> Now {
        Now { unix_ms: text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap() }
    }

    fn check(window: Window, zone: &str, now: &str, start: &str, end: &str) {
        let zone = TimeZone::posix(zone).unwrap();
        let expected = Span { start_ms: at(start).unix_ms, end_ms: at(end).unix_ms };
        assert_eq!(span(window, at(now), &zone), expected, "{window:?} at {now}");
    }

    #[test]
    fn days_and_months_follow_the_local_calendar_across_clock_changes() {
        // 23 hours long, 25 hours long, and a month with one hour less.
        check(Window::Day, BERLIN, "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(Window::Day, BERLIN, "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        check(Window::Month, BERLIN, "2026-03-31T10:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
        check(Window::Month, "UTC0", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn a_repeated_hour_is_two_windows() {
        check(Window::Hour, BERLIN, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        check(Window::Hour, BERLIN, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z");
        check(Window::Minute, BERLIN, "2026-10-25T01:30:07Z", "2026-10-25T01:30:00Z", "2026-10-25T01:31:00Z");
    }

    #[test]
    fn hours_follow_zones_of_half_hours() {
        check(Window::Hour, "IST-5:30", "2026-01-01T00:10:00Z", "2025-12-31T23:30:00Z", "2026-01-01T00:30:00Z");
    }

    #[test]
    fn every_instant_lies_in_its_window_and_windows_do_not_overlap() {
        // Lord Howe moves its clock by half an hour.
        for zone in [BERLIN, "UTC0", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"] {
            let zone = TimeZone::posix(zone).unwrap();
            for window in [Window::Minute, Window::Hour, Window::Day, Window::Month] {
                let mut last = span(window, at("2026-01-01T00:00:00Z"), &zone);
                let mut now = at("2026-01-01T00:00:00Z");
                while now < at("2026-12-01T00:00:00Z") {
                    let this = span(window, now, &zone);
                    assert!(this.start_ms <= now.unix_ms && now.unix_ms < this.end_ms, "{window:?} {now:?} {this:?}");
                    assert!(this == last || this.start_ms >= last.end_ms, "{window:?} {last:?} {this:?}");
                    last = this;
                    now = Now { unix_ms: now.plus(std::time::Duration::from_secs(13 * 60 + 7)) };
                }
            }
        }
    }

    #[test]
    fn a_time_outside_of_every_calendar_is_one_window_without_end() {
        assert_eq!(span(Window::Day, Now { unix_ms: u64::MAX }, &TimeZone::UTC), ENDLESS);
    }
}
