//! The end of the story: what was charged is what the providers counted, and `bulkhead usage` shows it.

use bulkhead_tests::eventually;
use serde_json::Value;

use crate::stage::Stage;
use crate::tenants::TENANTS;

/// Waits for the last settlement, compares, prints the table.
pub(super) async fn tell(stage: &mut Stage<'_>) {
    stage.page.chapter("The bill: tokens charged are tokens that the providers counted");
    let service = stage.service;
    eventually("every admitted request's settlement", async || {
        let open = service.audit().await.iter().filter(|line| is_open(line)).count();
        (open == 0).then_some(())
    })
    .await;
    for (tenant, _) in TENANTS {
        let (input, output) = stage.counted.get(tenant).copied().unwrap_or_default();
        let usage = service.usage(tenant).await;
        let spelled = |input: &Value, output: &Value| format!("{input} in, {output} out");
        let expected = spelled(&input.into(), &output.into());
        stage.page.finding(tenant, &expected, &spelled(&usage["inputTokens"], &usage["outputTokens"]));
    }
    println!("\n$ bulkhead usage\n{}", service.command(&["usage"]).await.trim_end());
}

/// Admitted, and not settled yet.
fn is_open(line: &Value) -> bool {
    line["decision"] == "allow" && line["reserved"].is_object() && line["charged"].is_null()
}
