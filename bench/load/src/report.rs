//! The line that is printed.

use crate::drive::Outcome;
use crate::latency::Latency;
use crate::plan::Plan;
use crate::relay;

/// One JSON object. Times are seconds, latencies microseconds; CPU is seconds of one core within
/// the window.
pub(crate) fn json(plan: &Plan, outcome: &mut Outcome) -> String {
    let usage = outcome.usage;
    let seconds = outcome.window.as_secs_f64();
    let latency = percentiles(&mut outcome.latency);
    let server = match plan.servers.first() {
        Some(_) => {
            format!(r#"{{"cpu":{:.3},"mainThread":{:.3}}}"#, usage.server, usage.server_main)
        }
        None => "null".into(),
    };
    format!(
        concat!(
            r#"{{"connections":{},"inFlight":{},"bytes":{},"seconds":{:.4},"messages":{},"#,
            r#""deliveries":{},"rate":{:.1},"lost":{},"extra":{},"clientCpu":{:.3},"#,
            r#""machineCpu":{:.3},"server":{},"latency":{}}}"#
        ),
        plan.connections,
        plan.in_flight,
        plan.bytes,
        seconds,
        outcome.messages,
        outcome.deliveries,
        outcome.deliveries as f64 / seconds,
        outcome.lost,
        outcome.extra,
        usage.client,
        usage.machine,
        server,
        latency,
    )
}

/// The same for a relay: `servers` has the CPU of each process in the order of the plan, `near` and
/// `far` are the latencies of the sender's own copies and of the listeners'.
pub(crate) fn relay_json(plan: &Plan, outcome: &mut relay::Outcome) -> String {
    let seconds = outcome.window.as_secs_f64();
    let servers: Vec<_> = outcome.servers.iter().map(|cpu| format!("{cpu:.3}")).collect();
    format!(
        concat!(
            r#"{{"connections":{},"inFlight":{},"bytes":{},"seconds":{:.4},"messages":{},"#,
            r#""deliveries":{},"sent":{},"lost":{},"extra":{},"clientCpu":{:.3},"#,
            r#""machineCpu":{:.3},"servers":[{}],"near":{},"far":{}}}"#
        ),
        plan.connections,
        plan.in_flight,
        plan.bytes,
        seconds,
        outcome.messages,
        outcome.deliveries,
        outcome.sent,
        outcome.lost,
        outcome.extra,
        outcome.usage.client,
        outcome.usage.machine,
        servers.join(","),
        percentiles(&mut outcome.near),
        percentiles(&mut outcome.far),
    )
}

fn percentiles(latency: &mut Latency) -> String {
    match latency.percentiles([0.5, 0.9, 0.99, 0.999, 1.0]) {
        Some([p50, p90, p99, p999, max]) => format!(
            r#"{{"p50":{p50:.1},"p90":{p90:.1},"p99":{p99:.1},"p999":{p999:.1},"max":{max:.1}}}"#
        ),
        None => "null".into(),
    }
}
