//! The line that is printed.

use std::time::Duration;

use crate::drive::Outcome;
use crate::latency::Latency;
use crate::plan::{Open, Plan, With};
use crate::usage::Usage;
use crate::{idle, last, rate, relay};

/// One JSON object. Times are seconds, latencies microseconds; CPU is seconds of one core within
/// the window.
pub(crate) fn json(plan: &Plan, outcome: &mut Outcome) -> String {
    let usage = outcome.usage;
    let seconds = outcome.window.as_secs_f64();
    let latency = percentiles(&mut outcome.latency);
    let server = server(plan, &usage);
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
/// `far` are the latencies of the sender's own copies and of the listeners', `block` is how many
/// milliseconds `/block` took.
pub(crate) fn relay_json(plan: &Plan, outcome: &mut relay::Outcome) -> String {
    let seconds = outcome.window.as_secs_f64();
    let servers: Vec<_> = outcome.servers.iter().map(|cpu| format!("{cpu:.3}")).collect();
    format!(
        concat!(
            r#"{{"connections":{},"inFlight":{},"bytes":{},"seconds":{:.4},"messages":{},"#,
            r#""deliveries":{},"sent":{},"lost":{},"extra":{},"clientCpu":{:.3},"#,
            r#""machineCpu":{:.3},"servers":[{}],"near":{},"far":{},"block":{}}}"#
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
        outcome.blocked.map_or("null".into(), milliseconds),
    )
}

/// The same for an open loop: `pace` is the rate asked for; `messages`, `deliveries` and `rate` (of
/// deliveries) are those of the window; `sent`, `answered`, `merged` (into the pong of a later
/// ping, and counted as answered), `lost` and `extra` those of the whole run. `block` has the
/// milliseconds asked for and those that `/block` took to answer.
pub(crate) fn rate_json(plan: &Plan, open: &Open, outcome: &mut rate::Outcome) -> String {
    let seconds = outcome.window.as_secs_f64();
    let block = match (open.block, outcome.blocked) {
        (Some(asked), Some(took)) => {
            format!(r#"{{"asked":{},"took":{:.1}}}"#, asked.as_millis(), took.as_secs_f64() * 1e3)
        }
        _ => "null".into(),
    };
    format!(
        concat!(
            r#"{{"connections":{},"bytes":{},"with":"{}","pace":{},"seconds":{:.4},"#,
            r#""messages":{},"deliveries":{},"rate":{:.1},"sent":{},"answered":{},"merged":{},"#,
            r#""lost":{},"extra":{},"clientCpu":{:.3},"machineCpu":{:.3},"server":{},"#,
            r#""latency":{},"block":{}}}"#
        ),
        plan.connections,
        plan.bytes,
        match open.with {
            With::Messages => "messages",
            With::Pings => "pings",
        },
        open.rate,
        seconds,
        outcome.messages,
        outcome.answers,
        outcome.answers as f64 / seconds,
        outcome.sent,
        outcome.answered,
        outcome.merged,
        outcome.lost,
        outcome.extra,
        outcome.usage.client,
        outcome.usage.machine,
        server(plan, &outcome.usage),
        percentiles(&mut outcome.latency),
        block,
    )
}

/// For broadcasts right before a block: latencies of all deliveries, and milliseconds until the last
/// of each, and that `/block` took.
pub(crate) fn last_json(plan: &Plan, outcome: &mut last::Outcome) -> String {
    let list =
        |all: &[Duration]| all.iter().map(|one| milliseconds(*one)).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"connections":{},"bytes":{},"latency":{},"last":[{}],"block":[{}]}}"#,
        plan.connections,
        plan.bytes,
        percentiles(&mut outcome.latency),
        list(&outcome.last),
        list(&outcome.blocked),
    )
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

/// Memory in bytes; the fields are those of [`idle::Outcome`].
pub(crate) fn idle_json(plan: &Plan, outcome: &idle::Outcome) -> String {
    format!(
        concat!(
            r#"{{"connections":{},"bytes":{},"rssBefore":{},"rssOpen":{},"rssAfter":{},"#,
            r#""kernelOpen":{},"kernelAfter":{},"slabOpen":{},"slabAfter":{},"#,
            r#""tcpOpen":{},"tcpAfter":{},"settled":{}}}"#
        ),
        plan.connections,
        plan.bytes,
        outcome.before.rss,
        outcome.open.rss,
        outcome.after.rss,
        outcome.kernel(&outcome.open),
        outcome.kernel(&outcome.after),
        outcome.open.slab - outcome.before.slab,
        outcome.after.slab - outcome.before.slab,
        outcome.open.tcp - outcome.before.tcp,
        outcome.after.tcp - outcome.before.tcp,
        outcome.settled,
    )
}

fn server(plan: &Plan, usage: &Usage) -> String {
    match plan.servers.first() {
        Some(_) => {
            format!(r#"{{"cpu":{:.3},"mainThread":{:.3}}}"#, usage.server, usage.server_main)
        }
        None => "null".into(),
    }
}

fn percentiles(latency: &mut Latency) -> String {
    match latency.percentiles([0.5, 0.9, 0.99, 0.999, 1.0]) {
        Some([p50, p90, p99, p999, max]) => format!(
            r#"{{"p50":{p50:.1},"p90":{p90:.1},"p99":{p99:.1},"p999":{p999:.1},"max":{max:.1}}}"#
        ),
        None => "null".into(),
    }
}
