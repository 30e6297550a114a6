//! Medians over the rounds, each beside the bare Envoy of its kind.

use std::path::Path;

use serde_json::json;

use crate::load::Figures;
use crate::subject::Subject;

/// The table.
pub(crate) fn print(subjects: &[Subject<'_>], rounds: &[Figures]) {
    let heads = ["Envoy µs", "service µs", "ratio", "req/s", "p50 µs", "p99 µs", "Check", "Lease", "Sync", "calls"];
    println!("| {:<17} | {:<27} | {} |", "", "", heads.join(" | "));
    println!("|---|---|{}", "---:|".repeat(heads.len()));
    for subject in subjects {
        let row = Row::of(subject, subjects, rounds);
        let [check, lease, sync, all] =
            row.calls.map(|calls| if calls > 0.0 { format!("{calls:.4}") } else { "-".into() });
        println!(
            "| {:<17} | {:<27} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {:.0} | {check} | {lease} | {sync} | {all} |",
            subject.kind, subject.name, row.envoy, row.service, row.ratio, row.rate, row.p50, row.p99,
        );
    }
    println!(
        "CPU of Envoy and of the service per request, user and system; ratio: both, to the bare Envoy of the kind."
    );
}

/// The same, and every single measurement.
pub(crate) fn write(file: &Path, connections: u32, subjects: &[Subject<'_>], rounds: &[Figures]) -> anyhow::Result<()> {
    let rows = subjects.iter().map(|subject| {
        let row = Row::of(subject, subjects, rounds);
        let [check, lease, sync, all] = row.calls;
        json!({
            "kind": subject.kind, "subject": subject.name, "envoyUs": row.envoy, "serviceUs": row.service,
            "ratioToBare": row.ratio, "requestsPerSecond": row.rate, "p50Us": row.p50, "p99Us": row.p99,
            "callsPerRequest": {"check": check, "lease": lease, "sync": sync, "all": all},
        })
    });
    let rows: Vec<_> = rows.collect();
    let result = json!({"connections": connections, "build": build(), "medians": rows, "rounds": rounds});
    std::fs::write(file, serde_json::to_vec_pretty(&result)?)?;
    println!("{}", file.display());
    Ok(())
}

struct Row {
    envoy: f64,
    service: f64,
    ratio: f64,
    rate: f64,
    p50: f64,
    p99: f64,
    /// Check, Lease, Sync, all.
    calls: [f64; 4],
}

impl Row {
    fn of(subject: &Subject<'_>, subjects: &[Subject<'_>], rounds: &[Figures]) -> Self {
        let median = |of: &dyn Fn(&Figures) -> f64| median(subject, rounds, of);
        let cpu = |figures: &Figures| figures.envoy_us + figures.service_us;
        let bare = subjects.iter().find(|other| other.is_bare() && other.kind == subject.kind);
        Self {
            envoy: median(&|figures| figures.envoy_us),
            service: median(&|figures| figures.service_us),
            ratio: median(&cpu) / bare.map_or(f64::NAN, |bare| self::median(bare, rounds, &cpu)),
            rate: median(&|figures| figures.requests_per_second),
            p50: median(&|figures| figures.p50_us as f64),
            p99: median(&|figures| figures.p99_us as f64),
            calls: [
                median(&|figures| figures.calls.check),
                median(&|figures| figures.calls.lease),
                median(&|figures| figures.calls.sync),
                median(&|figures| figures.calls.all()),
            ],
        }
    }
}

fn median(subject: &Subject<'_>, rounds: &[Figures], of: &dyn Fn(&Figures) -> f64) -> f64 {
    let own = |figures: &&Figures| figures.subject == subject.name && figures.kind == subject.kind;
    let mut values: Vec<f64> = rounds.iter().filter(own).map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) { "dev (a smoke, not a figure)" } else { "release" }
}
